#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill -9 of the coordinator at N drawn instants and of clients at N, restarted each time; every run must
# end with the model of the undisturbed one.
#   tests/system/kill_storm.sh [--kills 20] [--seed 100]
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- --kills 20
build=${STARLING_BUILD:-$PWD/build-test}
[ -f "$build/build.ninja" ] || meson setup "$build" -Dcrash_points=true >/dev/null
ninja -C "$build" >/dev/null
STARLING_BUILD=$build exec python3 tests/system/t_kill.py "$@"
