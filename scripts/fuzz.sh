#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every libFuzzer target, from its committed corpus, with ASan, UBSan and leak detection.
#   scripts/fuzz.sh --seconds 60      so long each (the acceptance run)
#   scripts/fuzz.sh --total 110       so long in all
#   scripts/fuzz.sh --coverage        also prints which share of each parser's lines its target reaches;
#                                     less than 80 % of a file in tests/fuzz/parsers.txt fails
# New inputs go to a scratch folder; what crashes a target is kept in build-fuzz/found, printed, and
# makes the run fail.
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
counters=()
if [ $coverage = yes ]; then
    dir=build-fuzz-coverage
    counters=(-Dc_args='-fprofile-instr-generate -fcoverage-mapping' -Dc_link_args='-fprofile-instr-generate')
fi
if [ ! -f $dir/build.ninja ]; then
    CC=clang meson setup $dir -Dfuzzers=true -Dtests=true -Db_sanitize=address,undefined "${counters[@]}" \
        >/dev/null || exit 1
fi
targets=()
for f in tests/fuzz/fuzz_*.c; do targets+=("$(basename "$f" .c)"); done
ninja -C $dir "${targets[@]/#/tests/fuzz/}" >$dir/ninja.log 2>&1 || { grep -A5 error $dir/ninja.log | head -n 40; exit 1; }
[ -n "$seconds" ] || seconds=$((${total:-110} / ${#targets[@]}))
[ "$seconds" -ge 1 ] || seconds=1

least=80 # percent

[ -n "${TMPDIR:-}" ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm
scratch=$(mktemp -d)
export TMPDIR=$scratch
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
        [ "$verdict" = ok ] && continue
        tail -n 40 "$scratch/${names[$j]}.log"
        mkdir -p $dir/found
        cp "$scratch/${names[$j]}"-* $dir/found/ && echo "kept in $dir/found"
    done
    i=$((i + 2))
done

# Prints the lines of FILE that are reached and that there are, by the profile of target NAME.
lines_of() { # NAME FILE
    llvm-cov-14 export -format=lcov -summary-only "$dir/tests/fuzz/fuzz_$1" \
        -instr-profile="$scratch/$1.profdata" |
        awk -v f="/$2" '/^SF:/ {on = substr($0, length($0) - length(f) + 1) == f}
            on && /^LF:/ {all = substr($0, 4)}
            on && /^LH:/ {hit = substr($0, 4)}
            END {print hit + 0, all + 0}'
}

if [ $coverage = yes ]; then
    for t in "${targets[@]}"; do
        grep -q "^${t#fuzz_} " tests/fuzz/parsers.txt && continue
        echo "${t#fuzz_}: no file in tests/fuzz/parsers.txt"
        status=1
    done
    while read -r name file; do
        if [ ! -f "$scratch/$name.profraw" ]; then
            echo "$name: no profile for $file"
            status=1
            continue
        fi
        [ -f "$scratch/$name.profdata" ] ||
            llvm-profdata-14 merge -sparse "$scratch/$name.profraw" -o "$scratch/$name.profdata"
        read -r hit all < <(lines_of "$name" "$file")
        share=$((all > 0 ? 100 * hit / all : 0))
        verdict=ok
        [ "$share" -ge $least ] || { verdict="less than $least %"; status=1; }
        printf '%-12s %-26s %4d of %4d lines %3d %%  %s\n' \
            "$name" "$file" "$hit" "$all" "$share" "$verdict"
    done < <(grep -v '^#' tests/fuzz/parsers.txt)
fi
exit $status
