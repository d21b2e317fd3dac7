#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What can be seen without building: includes point one way, each file has its licence line, the daemons
# link no attack.
set -uo pipefail
cd "$(dirname "$0")/.."
bad=0

git ls-files -co --exclude-standard -- '*.[ch]' | grep -E '^(proto|common|accel|server|client|sim)/' |
    xargs grep -Ho '#include "[^"]*/[^"]*"' | sed 's/:#include "/ /; s/"$//' |
    awk 'BEGIN {rank["proto"] = 1; rank["common"] = 2; rank["accel"] = 3
                rank["server"] = rank["client"] = 4; rank["sim"] = 5}
        {from = $1; to = $2; sub("/.*", "", from); sub("/.*", "", to)}
        rank[to] > rank[from] || (rank[to] == 4 && rank[from] == 4 && from != to) {
            print $1 ": includes " $2 " (allowed: proto <- common <- accel <- {server, client} <- sim)"
            bad = 1}
        END {exit bad}' || bad=1

git ls-files -co --exclude-standard -- '*.[ch]' '*.sh' '*.proto' '*.py' |
    xargs awk 'FNR == 1 {if (NR > 1 && !found) miss(); found = 0; file = FILENAME}
        FNR <= 3 && /SPDX-License-Identifier: Apache-2.0/ {found = 1}
        END {if (!found) miss(); exit bad}
        function miss() {print file ": no SPDX line in its first three lines"; bad = 1}' || bad=1

if grep -nE 'attack/' client/meson.build server/meson.build; then
    echo "daemons must not link attacks"
    bad=1
fi
exit $bad
