#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, and runs the suites; the last line is "N passed, N failed".
#   scripts/test.sh            what CI runs: unit, kernels, golden, scenario, system, fuzz corpora,
#                              the same under sanitizers where they can run, two minutes of fuzzing
#   scripts/test.sh --quick    gcc build, unit, kernels and golden only
#   scripts/test.sh --slow     suite slow alone
#   scripts/test.sh --full     all of it and: slow, Valgrind, coverage, long kill storms, fuzzing
#                              for 60 s a target
# Build folders: build-test, build-clang, build-asan, build-tsan, build-fuzz beside the sources.
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
trap 'rm -rf "$log"' EXIT
started=$SECONDS
passed=0
failed=0

note() { printf '[%4ds] %s\n' $((SECONDS - started)) "$*"; }

finish() {
    note "done"
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
}

# step NAME COMMAND...: a thing that passes or fails as a whole
step() {
    local name=$1
    shift
    note "$name"
    if "$@" >"$log/out" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $name"
        tail -n 60 "$log/out"
    fi
}

# configure DIR MESON-OPTIONS...: once; a failure ends the run
configure() {
    local dir=$1
    shift
    note "build $dir ($*)"
    if [ ! -f "$dir/build.ninja" ]; then
        meson setup "$dir" "$@" >"$log/out" 2>&1 || { cat "$log/out"; failed=$((failed + 1)); finish; }
    fi
}

# build DIR MESON-OPTIONS...: configures, compiles all; a failure ends the run
build() {
    local dir=$1
    configure "$@"
    if ! ninja -C "$dir" >"$log/out" 2>&1; then
        grep -E -A8 'FAILED|error' "$log/out" | head -n 60
        failed=$((failed + 1))
        finish
    fi
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
    meson test -C "$dir" --print-errorlogs "${args[@]}" >"$log/out" 2>&1
    local rc=$?
    local ok bad
    ok=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$log/out" | tail -n 1)
    bad=$(awk '/^(Fail|Timeout|Unexpected Pass):/ {n += $NF} END {print n + 0}' "$log/out")
    if [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    passed=$((passed + ${ok:-0}))
    failed=$((failed + bad))
    if [ "$bad" -ne 0 ]; then
        grep -vE '^ *[0-9]+/[0-9]+ .* OK ' "$log/out" | tail -n 150
    fi
}

scripts/bootstrap.sh || { echo "0 passed, 1 failed"; exit 1; }

build build-test -Dwerror=true -Dcrash_points=true
if [ "$mode" = --slow ]; then
    suites build-test slow
    finish
fi
if [ -z "$mode" ] || [ "$mode" = --full ]; then
    step "style: includes point one way, formatting, packages listed" scripts/check-style.sh
fi
suites build-test unit kernels golden fuzz
[ "$mode" = --quick ] && finish
suites build-test scenario system

export CC=clang
build build-clang -Dwerror=true
unset CC
suites build-clang unit golden -trajectories
step "gcc and clang builds give the same model" scripts/same-digest.sh build-test build-clang

export LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp:print_suppressions=0
configure build-asan -Db_sanitize=address,undefined -Doptimization=1
suites build-asan unit kernels fuzz scenario
configure build-tsan -Db_sanitize=thread -Doptimization=1
suites build-tsan threads

if [ "$mode" = --full ]; then
    suites build-test slow
    step "kill storm, 20 + 20" tests/system/kill_storm.sh --kills 20
    step "fuzzing, 60 s a target" scripts/fuzz.sh --seconds 60 --coverage
    step "arm64: golden vectors and the model of a FAST round under qemu" scripts/arm64.sh
    step "valgrind" scripts/valgrind.sh build-test
    step "coverage" scripts/coverage.sh
else
    step "fuzzing, 2 minutes in all" scripts/fuzz.sh --total 110
fi
finish
