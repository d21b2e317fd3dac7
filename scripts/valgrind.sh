#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Unit tests and one short simulated run under Valgrind's memcheck; definite leaks and errors fail.
#   scripts/valgrind.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
export OPENBLAS_CORETYPE=Haswell # Valgrind knows no AVX-512
export STARLING_CPU_MASK=avx512
vg=(valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite)
for t in t_plan t_config t_wire t_session t_handshake t_round t_aggregate t_store t_npy t_safetensors t_task; do
    [ -x "$build/tests/unit/$t" ] || continue
    echo "$t"
    SL_GOLDEN=tests/golden "${vg[@]}" "$build/tests/unit/$t" >/dev/null
done
"${vg[@]}" "$build/sim/starling-sim" run plans/quickstart.yaml --quiet
