#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Draws the plots of docs/ from finished experiments.
#   scripts/plots.sh DIR    DIR/fast, DIR/tr, DIR/uplink, DIR/spherefed, DIR/robust, DIR/strategies: the --out folders
# STARLING_BUILD: where starling-sim is built (default: build).
set -euo pipefail

if [ $# -ne 1 ] || [ ! -d "$1" ]; then
    echo "usage: scripts/plots.sh DIR (with the --out folders of the experiments)" >&2
    exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
sim=${STARLING_BUILD:-$root/build}/sim/starling-sim
mkdir -p "$root/docs/img"

for e in fast tr uplink spherefed robust strategies; do
    "$sim" experiment $e --out "$1/$e" --no-run --quiet >/dev/null
done
for plot in fast/fast-central-passes fast/fast-federated-passes fast/fast-federated-rounds tr/tr-pairs uplink/uplink-bits \
    spherefed/spherefed-mlp-0.1 spherefed/spherefed-mlp-0.3 spherefed/spherefed-lenet-0.1-width spherefed/spherefed-lenet-shards-width \
    robust/robust-sign-flip robust/robust-scaling strategies/strategies-dirichlet-0.1; do
    if [ -f "$1/$plot.svg" ]; then
        cp "$1/$plot.svg" "$root/docs/img/"
    else
        echo "no $1/$plot.svg: not finished" >&2
    fi
done
