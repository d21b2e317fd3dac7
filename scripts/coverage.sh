#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Line coverage of the suites unit, kernels, golden and scenario; the page is build-cov/coverage.html.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -f build-cov/build.ninja ] || meson setup build-cov -Db_coverage=true >/dev/null
ninja -C build-cov >/dev/null
meson test -C build-cov --no-rebuild --suite unit --suite kernels --suite golden --suite scenario >/dev/null
gcovr -r . build-cov --exclude 'tests/.*' --exclude '.*pb-c.*' --print-summary \
    --html-details build-cov/coverage.html | tail -n 4
