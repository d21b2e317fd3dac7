#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two builds (gcc and clang) train the same plans to the same models: nothing is contracted or reassociated.
#   scripts/same-digest.sh BUILD-A BUILD-B
set -euo pipefail
cd "$(dirname "$0")/.."
for plan in "plans/quickstart.yaml" "plans/lenet-20.yaml --set run.rounds=2" "plans/baseline-mlp.yaml --set run.rounds=1"; do
    digests=()
    for build in "$1" "$2"; do
        report=$(mktemp)
        # shellcheck disable=SC2086
        "$build/sim/starling-sim" run $plan --quiet --report "$report"
        digests+=("$(sed -n 's/.*"event":"run_end".*"model_digest":"\([0-9a-f]*\)".*/\1/p' "$report")")
        rm -f "$report"
    done
    echo "$plan: ${digests[0]} ${digests[1]}"
    [ -n "${digests[0]}" ] && [ "${digests[0]}" = "${digests[1]}" ]
done
