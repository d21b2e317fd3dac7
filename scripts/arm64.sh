#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds for arm64 in a Debian sysroot of its own and runs it under qemu: the kernels of the emulated
# units against their definitions, the golden vectors of the formats, and a FAST round whose model must
# be the one of this machine.
#   scripts/arm64.sh            build folder build-arm64, sysroot build-arm64-root (170 MB)
set -euo pipefail
cd "$(dirname "$0")/.."

sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"
missing=()
for p in gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static mmdebstrap; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ "${#missing[@]}" -gt 0 ]; then
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

root=$PWD/build-arm64-root
if [ ! -f "$root/ready" ]; then
    rm -rf "$root"
    dev=libc6-dev,libgcc-12-dev,libnng-dev,libsodium-dev,libopenblas-dev,libopenblas-pthread-dev
    dev=$dev,libuv1-dev,libprotobuf-c-dev,libcmocka-dev,libsystemd-dev,libsqlite3-dev,libyaml-dev
    dev=$dev,libjansson-dev,libmicrohttpd-dev,zlib1g-dev,libxxhash-dev
    mmdebstrap --quiet --architectures=arm64 --variant=extract --include="$dev" bookworm "$root"
    touch "$root/ready"
fi

lib=usr/lib/aarch64-linux-gnu
cat >"$root/cross.ini" <<EOF
[constants]
root = '$root'
[binaries]
c = 'aarch64-linux-gnu-gcc'
ar = 'aarch64-linux-gnu-ar'
strip = 'aarch64-linux-gnu-strip'
pkgconfig = 'pkg-config'
exe_wrapper = ['qemu-aarch64-static', '-L', root, '-E', 'LD_LIBRARY_PATH=/$lib/openblas-pthread', '-U', 'OPENBLAS_CORETYPE']
[built-in options]
c_args = ['--sysroot=' + root]
c_link_args = ['--sysroot=' + root, '-Wl,-rpath-link,' + root / '$lib/openblas-pthread']
[properties]
sys_root = root
pkg_config_libdir = [root / '$lib/pkgconfig', root / 'usr/share/pkgconfig', root / '$lib/openblas-pthread/pkgconfig']
[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
EOF
if [ -f build-arm64/build.ninja ]; then
    meson configure build-arm64 -Dtests=true >/dev/null
else
    meson setup build-arm64 --cross-file "$root/cross.ini" -Dtests=true >/dev/null
fi
kernels=tests/kernels/t_kernels
ninja -C build-arm64 accel/starling-accel sim/starling-sim ${kernels}_bfp ${kernels}_units >build-arm64/ninja.log || {
    grep -E -A6 'FAILED|error' build-arm64/ninja.log | head -n 40
    exit 1
}

arm() { qemu-aarch64-static -L "$root" -E "LD_LIBRARY_PATH=/$lib/openblas-pthread" -U OPENBLAS_CORETYPE "$@"; }
arm build-arm64/accel/starling-accel info
arm build-arm64/${kernels}_units neon 2>&1 | tail -n 1
for level in neon neon,dotprod; do
    arm build-arm64/${kernels}_bfp $level 2>&1 | tail -n 1
done
arm build-arm64/accel/starling-accel check tests/golden/accel --only hash64 --only 'fast_*' --only 'tr_*' \
    --only 'rtn_*' | tail -n 1

host=${STARLING_BUILD:-build-test}/sim/starling-sim
[ -x "$host" ] || { echo "arm64.sh: $host is not there (build first, or set STARLING_BUILD)" >&2; exit 2; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
digest() { sed -n 's/.*"event": *"run_end".*"model_digest": *"\([0-9a-f]*\)".*/\1/p' "$1"; }
args=(run plans/lenet-20.yaml --quiet --jobs 2 --set run.rounds=1 --set data.limit=1500 --set accelerator.matmul=fast)
"$host" "${args[@]}" --report "$out/host.jsonl"
arm build-arm64/sim/starling-sim "${args[@]}" --report "$out/arm.jsonl"
a=$(digest "$out/host.jsonl")
b=$(digest "$out/arm.jsonl")
echo "this machine $a"
echo "arm64        $b"
[ -n "$a" ] && [ "$a" = "$b" ]
