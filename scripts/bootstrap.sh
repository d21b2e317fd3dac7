#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building and testing need (Debian 12), skipping what is there already.
#   scripts/bootstrap.sh            build and tests
#   scripts/bootstrap.sh --bench    the peers that benchmarks compare with, too
#   scripts/bootstrap.sh --build    build only (no test tools)
set -euo pipefail

build=(build-essential pkg-config meson ninja-build cmake
    libnng-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libuv1-dev
    libopenblas-dev libsodium-dev libsystemd-dev libsqlite3-dev libyaml-dev
    libjansson-dev libmicrohttpd-dev zlib1g-dev libxxhash-dev dataset-fashion-mnist)
tests=(libcmocka-dev clang llvm libclang-rt-14-dev clang-format valgrind gcovr iproute2
    python3 python3-numpy mandoc)
bench=(python3-torch python3-numpy)

want=("${build[@]}")
case "${1:-}" in
"") want+=("${tests[@]}") ;;
--build) ;;
--bench) want+=("${tests[@]}" "${bench[@]}") ;;
*)
    echo "usage: scripts/bootstrap.sh [--build | --bench]" >&2
    exit 2
    ;;
esac

missing=()
for p in "${want[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi
echo "installing: ${missing[*]}"
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
