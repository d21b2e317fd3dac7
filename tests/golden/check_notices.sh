#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A case with one expected number altered fails, and so do a missing file, an unknown kind and a
# strategy that is not available.   check_notices.sh STARLING-SIM GOLDEN
set -eu
sim=$1
golden=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect NAME STATUS PATTERN DIR [ARGS...]
expect() {
    name=$1 status=$2 pattern=$3
    shift 3
    got=0
    "$sim" check "$@" >"$work/out" 2>&1 || got=$?
    if [ "$got" -ne "$status" ] || ! grep -q -- "$pattern" "$work/out"; then
        echo "not ok $name: status $got ($status wanted), pattern '$pattern' in:"
        cat "$work/out"
        failures=$((failures + 1))
    else
        echo "ok $name"
    fi
}

# alter FILE OLD NEW: the first occurrence
alter() {
    python3 - "$@" <<'PY'
import sys
path, old, new = sys.argv[1:]
data = open(path).read()
assert old in data, old
open(path, "w").write(data.replace(old, new, 1))
PY
}

copy() {
    rm -rf "$work/case"
    cp -r "$golden/fl/$1" "$work/case"
    chmod -R u+w "$work/case"
}

# one float of a stored array: its last byte but one
flip() {
    python3 - "$1" <<'PY'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
data[-2] ^= 0x20
open(sys.argv[1], "wb").write(data)
PY
}

copy agg_plain
flip "$work/case/weighted_mean.npy"
expect "altered mean" 1 "not ok agg_plain/weighted_mean: result, 3289" "$work/case" --only '*/weighted_mean'
expect "unaltered mean" 0 "1 passed, 0 failed" "$work/case" --only '*/mean'
rm "$work/case/mean.npy"
expect "missing file" 1 "not ok agg_plain/mean: mean.npy" "$work/case" --only '*/mean'
for rule in median trimmed_mean_b2 krum_f1 multi_krum_f1_m3 geomed_samples_t4; do
    flip "$work/case/$rule.npy"
    expect "altered $rule" 1 "not ok agg_plain/$rule: result, 3289" "$work/case" --only "*/$rule"
done
alter "$work/case/manifest.json" '"median"' '"mode"'
alter "$work/case/manifest.json" '"aggregator": "median"' '"aggregator": "mode"'
expect "rule not available" 1 "available: mean median" "$work/case" --only '*/mode'

copy fedprox_tiny
alter "$work/case/manifest.json" '"fedprox"' '"fedsgd"'
expect "strategy not available" 1 "not ok fedprox_tiny: strategy, -, a known one, fedsgd" "$work/case"
copy fedavg_tiny
alter "$work/case/manifest.json" '"fl-vectors-1"' '"fl-vectors-9"'
expect "unknown format" 1 "not ok fedavg_tiny: format" "$work/case"
printf '{' >"$work/case/manifest.json"
expect "broken manifest" 1 "not ok case: manifest.json" "$work/case"
expect "no such folder" 2 "not a folder" "$work/none"
mkdir "$work/empty"
expect "empty folder" 2 "no manifest.json" "$work/empty"
expect "glob without a case" 2 "leaves no case" "$golden/fl/agg_plain" --only nothing

mkdir "$work/nn"
cp "$golden/nn/manifest.json" "$golden/nn/dense.npz" "$work/nn"
chmod -R u+w "$work/nn"
expect "unaltered layer" 0 "1 passed, 0 failed" "$work/nn" --only dense
python3 - "$work/nn/dense.npz" <<'PY'
import sys, zipfile
path = sys.argv[1]
with zipfile.ZipFile(path) as z:
    files = {n: bytearray(z.read(n)) for n in z.namelist()}
files["out_dw.npy"][-2] ^= 0x20
with zipfile.ZipFile(path, "w") as z:
    for name, data in files.items():
        z.writestr(name, bytes(data))
PY
expect "altered layer" 1 "not ok dense: out_dw" "$work/nn" --only dense
printf 'cut' >"$work/nn/dense.npz"
expect "damaged layer" 1 "not ok dense" "$work/nn" --only dense

if [ -d "${FMNIST_DIR:-/usr/share/datasets/fashion-mnist}" ]; then
    copy fedavg_tiny
    expect "unaltered trajectory" 0 "1 passed, 0 failed" "$work/case"
    flip "$work/case/params.npy"
    expect "altered parameter" 1 "not ok fedavg_tiny: params of round 4, 7849" "$work/case"
    for state in fedadam_tiny:state_v fedyogi_tiny:state_m fedavgm_tiny:state_v scaffold_tiny:state_c; do
        copy "${state%%:*}"
        flip "$work/case/${state##*:}.npy"
        expect "altered state of ${state%%:*}" 1 "${state##*:} of round 4, rel_l2" "$work/case"
    done
    for array in calib_V calib_U calib_W calib_z_W; do
        copy spherefed_feat16
        flip "$work/case/$array.npy"
        expect "altered $array" 1 "not ok spherefed_feat16: $array, rel_l2" "$work/case"
    done
    for field in loss_start train_loss loss_after test_loss test_correct client_loss_start; do
        copy fedavg_tiny
        python3 - "$work/case/manifest.json" "$field" <<'PY'
import json, sys
path, field = sys.argv[1:]
m = json.load(open(path))
row = m["expect"][field]
if isinstance(row[2], list):
    row[2][1] += 1e-3
else:
    row[2] += 1 if field == "test_correct" else 1e-3
json.dump(m, open(path, "w"))
PY
        expect "altered $field" 1 "not ok fedavg_tiny: $field" "$work/case"
    done
fi
[ "$failures" -eq 0 ]
