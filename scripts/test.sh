#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, and runs the suites; the last line is "N passed, N failed".
#   scripts/test.sh            what CI runs: unit, kernels, golden, scenario, system, fuzz corpora,
#                              the same under sanitizers where they can run, two minutes of fuzzing
#   scripts/test.sh --quick    gcc build, unit, kernels and golden only
#   scripts/test.sh --slow     suite slow alone
#   scripts/test.sh --full     all of it and: slow, Valgrind, coverage, long kill storms, fuzzing
#                              for 60 s a target
# Build folders: build-test (gcc), build-asan (clang), build-tsan, build-fuzz beside the sources.
set -uo pipefail
cd "$(dirname "$0")/.."

mode="${1:-}"
case "$mode" in
"" | --quick | --slow | --full) ;;
*)
    echo "usage: scripts/test.sh [--quick | --slow | --full]" >&2
    exit 2
    ;;
esac

log=$(mktemp -d)
started=$SECONDS
second=
export lane=first
: >"$log/sums"
# ends what a second lane still runs, with all that it started
trap '[ -z "$second" ] || kill -- "-$second" 2>/dev/null; rm -rf "$log"' EXIT

note() { printf '[%4ds] %s\n' $((SECONDS - started)) "$*"; }

# add PASSED FAILED: to the sums of all lanes
add() { echo "$1 $2" >>"$log/sums"; }

finish() {
    [ $lane = first ] || exit
    note "done"
    awk '{p += $1; f += $2} END {print p + 0 " passed, " f + 0 " failed"; exit f != 0}' "$log/sums"
    exit
}

# broken: what the log of this lane says; ends the lane
broken() {
    grep -E -A8 'FAILED|error|ERROR' "$log/$lane" | head -n 60
    add 0 1
    finish
}

# step NAME COMMAND...: a thing that passes or fails as a whole
step() {
    local name=$1
    shift
    note "$name"
    if "$@" >"$log/$lane" 2>&1; then
        add 1 0
    else
        add 0 1
        echo "FAILED: $name"
        tail -n 60 "$log/$lane"
    fi
}

# configure DIR MESON-OPTIONS...: once; a failure ends the lane
configure() {
    local dir=$1
    shift
    note "build $dir ($*)"
    [ -f "$dir/build.ninja" ] || meson setup "$dir" "$@" >"$log/$lane" 2>&1 || broken
}

# compile DIR TARGET...: all without targets; a failure ends the lane
compile() {
    local dir=$1
    shift
    ninja -C "$dir" "$@" >"$log/$lane" 2>&1 || broken
}

# suites DIR SUITE... [-SUITE...]: runs meson suites without those behind a dash, after building what they
# need, and adds their tests to the sums
suites() {
    local dir=$1
    shift
    local args=()
    for s in "$@"; do
        case $s in
        -*) args+=(--no-suite "${s#-}") ;;
        *) args+=(--suite "$s") ;;
        esac
    done
    note "$dir: $*"
    meson test -C "$dir" --print-errorlogs "${args[@]}" >"$log/$lane" 2>&1
    local rc=$?
    local ok bad
    ok=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$log/$lane" | tail -n 1)
    bad=$(awk '/^(Fail|Timeout|Unexpected Pass):/ {n += $NF} END {print n + 0}' "$log/$lane")
    if [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    add "${ok:-0}" "$bad"
    if [ "$bad" -ne 0 ]; then
        grep -vE '^ *[0-9]+/[0-9]+ .* OK ' "$log/$lane" | tail -n 150
    fi
}

# The second lane: what clang and the sanitizers find. It fills the time in which the first one waits for
# its daemons, and gives way to it.
sanitizers() {
    export CC=clang
    configure build-asan -Dwerror=true -Db_sanitize=address,undefined
    compile build-asan sim/starling-sim
    export LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp:print_suppressions=0
    step "gcc and clang builds give the same model" scripts/same-digest.sh build-test build-asan
    suites build-asan unit kernels fuzz scenario
    unset CC
    configure build-tsan -Db_sanitize=thread -Doptimization=1
    suites build-tsan threads
    [ "$mode" = --full ] || step "fuzzing, 2 minutes in all" scripts/fuzz.sh --total 110
    touch "$log/ended"
}

scripts/bootstrap.sh || { echo "0 passed, 1 failed"; exit 1; }

configure build-test -Dwerror=true -Dcrash_points=true
compile build-test
if [ "$mode" = --slow ]; then
    suites build-test slow
    finish
fi
if [ "$mode" != --quick ]; then
    step "style: includes point one way, formatting, packages listed" scripts/check-style.sh
    set -m
    (lane=second; renice -n 19 "$BASHPID" >/dev/null; sanitizers) &
    second=$!
    set +m
fi
suites build-test unit kernels golden fuzz
[ "$mode" = --quick ] && finish
suites build-test scenario system
wait "$second"
second=
[ -e "$log/ended" ] || { echo "FAILED: the sanitizers did not come to their end"; add 0 1; }

if [ "$mode" = --full ]; then
    suites build-test slow
    step "kill storm, 20 + 20" tests/system/kill_storm.sh --kills 20
    step "fuzzing, 60 s a target" scripts/fuzz.sh --seconds 60 --coverage
    step "arm64: golden vectors and the model of a FAST round under qemu" scripts/arm64.sh
    step "valgrind" scripts/valgrind.sh build-test
    step "coverage" scripts/coverage.sh
fi
finish
