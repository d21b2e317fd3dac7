#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A federation on this machine in one command: installs, builds, makes keys, starts one coordinator
# and ten client daemons, runs plans/demo.yaml on Fashion-MNIST, and shows what came out.
#   --clients N    client daemons (default 10; the plan's partition follows)
#   --plan FILE    another plan (no expected band then)
#   --report FILE  where the report goes (default .demo/report.jsonl)
#   --quick        3 rounds only
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here"

clients=10
plan=plans/demo.yaml
report=""
quick=no
usage() {
    sed -n '3,9s/^# \{0,1\}//p' "$0"
    exit "$1"
}
need() { [ $# -ge 2 ] || { echo "demo.sh: $1 needs a value" >&2; exit 2; }; }
while [ $# -gt 0 ]; do
    case "$1" in
    --clients) need "$@"; clients=$2; shift 2 ;;
    --plan) need "$@"; plan=$2; shift 2 ;;
    --report) need "$@"; report=$2; shift 2 ;;
    --quick) quick=yes; shift ;;
    --help | -h) usage 0 ;;
    *) echo "demo.sh: $1: unknown option" >&2; usage 2 >&2 ;;
    esac
done
case "$clients" in
'' | *[!0-9]*) echo "demo.sh: --clients: a whole number from 1 to 200 expected" >&2; exit 2 ;;
esac
if [ "$clients" -lt 1 ] || [ "$clients" -gt 200 ]; then
    echo "demo.sh: --clients: a whole number from 1 to 200 expected" >&2
    exit 2
fi
[ -f "$plan" ] || { echo "demo.sh: $plan: no such plan" >&2; exit 2; }

echo "== installing what is missing"
scripts/bootstrap.sh --build
echo "== building"
build=build-demo
[ -f $build/build.ninja ] || meson setup $build --buildtype=release -Dtests=false >/dev/null
ninja -C $build >/dev/null
server=$here/$build/server/starling-server
client=$here/$build/client/starling-client
ctl=$here/$build/server/starlingctl

# --- a clean place: keys, state and logs of this run only
out=$here/.demo
rm -rf "$out"
mkdir -p "$out/clients"
sock_dir=$(mktemp -d)
pids=()
cleanup() {
    for p in "${pids[@]}"; do kill -TERM "$p" 2>/dev/null || true; done
    for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
    rm -rf "$sock_dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
export STARLING_SOCKET=$sock_dir/admin.sock
export OPENBLAS_NUM_THREADS=1

echo "== starting one coordinator and $clients clients"
"$ctl" keygen "$out/server.key" >"$out/server.pub"
cat >"$out/server.yaml" <<CONF
listen: tcp://127.0.0.1:0
state_dir: $out/server
identity: $out/server.key
admin_socket: $STARLING_SOCKET
http: 127.0.0.1:0
log: info
CONF
mkdir -p "$out/server"
"$server" --config "$out/server.yaml" 2>"$out/server.log" &
pids+=($!)
for _ in $(seq 100); do
    [ -S "$STARLING_SOCKET" ] && "$ctl" status >/dev/null 2>&1 && break
    kill -0 "${pids[0]}" 2>/dev/null || { cat "$out/server.log" >&2; exit 1; }
    sleep 0.1
done
port=$("$ctl" status --json | sed -n 's/.*"port": *\([0-9]*\).*/\1/p' | head -n 1)
for i in $(seq 0 $((clients - 1))); do
    dir=$out/clients/$i
    mkdir -p "$dir/state"
    (umask 077 && "$ctl" token --index "$i" >"$dir/token")
    cat >"$dir/client.yaml" <<CONF
coordinator: tcp://127.0.0.1:$port
coordinator_key: $(cat "$out/server.pub")
identity: $dir/key
join_token_file: $dir/token
name: demo-$i
index: $i
state_dir: $dir/state
log: info
CONF
    "$client" --config "$dir/client.yaml" 2>"$dir/log" &
    pids+=($!)
done

echo "== training: $plan"
set_args=()
[ "$plan" = plans/demo.yaml ] && set_args+=(--set "data.partition.clients=$clients")
[ "$quick" = yes ] && set_args+=(--set run.rounds=3)
sed -n 's/.*status page at/page, as long as it lasts:/p' "$out/server.log"
started=$(date +%s.%N)
"$ctl" submit "$plan" "${set_args[@]}" >/dev/null
status=0
"$ctl" watch --run 1 || status=$?
ended=$(date +%s.%N)
report=${report:-$out/report.jsonl}
"$ctl" report --run 1 -o "$report"
"$ctl" report --run 1 --svg "$out/curve.svg"
"$ctl" export -o "$out/model.npz"
if [ $status -ne 0 ]; then
    echo "the run failed; logs: $out/server.log, $out/clients/*/log" >&2
    exit 1
fi

accuracy=$(sed -n 's/.*"event":"run_end".*/&/p' "$report" | sed -n 's/.*"accuracy":\([0-9.]*\).*/\1/p')
verdict=""
if [ "$plan" = plans/demo.yaml ] && [ "$clients" = 10 ] && [ "$quick" = no ]; then
    mean=$(sed -n 's/^mean: *//p' plans/demo.band)
    verdict=$(awk -v a="$accuracy" -v m="$mean" 'BEGIN {
        low = m - 0.02; high = m + 0.02
        printf "expected %.4f to %.4f (mean of five recorded seeds +- 2 points): %s\n", low, high,
               (a >= low && a <= high) ? "inside" : "OUTSIDE"}')
    echo "$verdict"
fi
echo "wall time of the run: $(awk -v a="$started" -v b="$ended" 'BEGIN {printf "%.1f s", b - a}')"
echo "model:  ${out#"$here"/}/model.npz    report: ${report#"$here"/}    curve: ${out#"$here"/}/curve.svg"
echo "next:   $build/sim/starling-sim run $plan    (the same run, simulated: the same model)"
case "$verdict" in *OUTSIDE*) exit 1 ;; esac
