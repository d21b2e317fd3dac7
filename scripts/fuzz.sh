#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every libFuzzer target, from its committed corpus, with ASan, UBSan and leak detection.
#   scripts/fuzz.sh --seconds 60      so long each (the acceptance run)
#   scripts/fuzz.sh --total 110       so long in all
#   scripts/fuzz.sh --coverage        also prints which share of the parser's lines each target reaches
# New inputs go to a scratch folder; a crash is printed with its file and makes the run fail.
set -uo pipefail
cd "$(dirname "$0")/.."
seconds=""
total=""
coverage=no
while [ $# -gt 0 ]; do
    case "$1" in
    --seconds) seconds=$2; shift 2 ;;
    --total) total=$2; shift 2 ;;
    --coverage) coverage=yes; shift ;;
    *) echo "usage: scripts/fuzz.sh [--seconds N | --total N] [--coverage]" >&2; exit 2 ;;
    esac
done
scripts/bootstrap.sh || exit 1
dir=build-fuzz
if [ ! -f $dir/build.ninja ]; then
    CC=clang meson setup $dir -Dfuzzers=true -Dtests=true -Db_sanitize=address,undefined \
        -Dc_args='-fprofile-instr-generate -fcoverage-mapping' \
        -Dc_link_args='-fprofile-instr-generate' >/dev/null || exit 1
fi
targets=()
for f in tests/fuzz/fuzz_*.c; do targets+=("$(basename "$f" .c)"); done
ninja -C $dir "${targets[@]/#/tests/fuzz/}" >$dir/ninja.log 2>&1 || { grep -A5 error $dir/ninja.log | head -n 40; exit 1; }
[ -n "$seconds" ] || seconds=$((${total:-110} / ${#targets[@]}))
[ "$seconds" -ge 1 ] || seconds=1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
run_one() { # TARGET
    local t=$1 name=${1#fuzz_}
    mkdir -p "$scratch/$name"
    LLVM_PROFILE_FILE="$scratch/$name.profraw" "$dir/tests/fuzz/$t" -max_total_time="$seconds" \
        -rss_limit_mb=1024 -timeout=20 -print_final_stats=1 -artifact_prefix="$scratch/$name-" \
        "$scratch/$name" "tests/fuzz/corpus/$name" >"$scratch/$name.log" 2>&1
}
status=0
i=0
while [ $i -lt ${#targets[@]} ]; do # two at a time: two cores
    pids=()
    names=()
    for j in 0 1; do
        k=$((i + j))
        [ $k -lt ${#targets[@]} ] || continue
        run_one "${targets[$k]}" &
        pids+=($!)
        names+=("${targets[$k]#fuzz_}")
    done
    for j in "${!pids[@]}"; do
        if wait "${pids[$j]}"; then verdict=ok; else verdict=CRASH; status=1; fi
        execs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/${names[$j]}.log")
        echo "${names[$j]}: $verdict, ${seconds} s, ${execs:-?} runs"
        [ "$verdict" = ok ] || { tail -n 40 "$scratch/${names[$j]}.log"; }
    done
    i=$((i + 2))
done

if [ $coverage = yes ]; then
    while read -r name files; do
        [ -f "$scratch/$name.profraw" ] || continue
        llvm-profdata-14 merge -sparse "$scratch/$name.profraw" -o "$scratch/$name.profdata"
        # shellcheck disable=SC2086
        llvm-cov-14 report "$dir/tests/fuzz/fuzz_$name" -instr-profile="$scratch/$name.profdata" $files |
            awk -v n="$name" 'NF > 9 && $1 ~ /\.c$/ {printf "%s: %s lines %s\n", n, $1, $10}'
    done <tests/fuzz/parsers.txt
fi
exit $status
