#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Empty rounds with real processes on loopback, start-up and memory (session encryption on).

For each case: a coordinator, N client daemons, a plan with local_steps 0 and no evaluation; the figure is
the median of wall_s over the rounds, as the coordinator reports it."""
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from fleet import Fleet, wait_for  # noqa: E402

PLAN = """run: {{name: empty, seed: 1, rounds: {rounds}, eval_every: 0}}
data: {{dataset: fashion-mnist, partition: {{kind: iid, clients: {n}}}}}
model: {{name: {model}}}
train: {{local_steps: 0, batch_size: 32, lr: 0.05}}
selection: {{policy: all}}
"""


def memory_mb(pid):
    """(resident, private) of a process in MB."""
    rss = private = 0
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            word = line.split()
            if word[0] == "Rss:":
                rss = int(word[1])
            elif word[0] in ("Private_Clean:", "Private_Dirty:"):
                private += int(word[1])
    return rss / 1024, private / 1024


def cpu_s(pid):
    """Processor time of a process so far."""
    with open(f"/proc/{pid}/stat") as f:
        word = f.read().rsplit(")", 1)[1].split()
    return (int(word[11]) + int(word[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(l.split()[1]) for l in f if l.startswith("VmHWM")) / 1024


def case(model, n, rounds, out):
    with Fleet(n, log="info") as f:
        f.start_server()
        for i in range(n):
            f.add_client(i, start=False)
        began = time.monotonic()
        for i in range(n):
            f.clients[i].start()
        wait_for("registration", lambda: f.status()["clients"]["registered"] == n, period=0.01)
        start_s = time.monotonic() - began
        time.sleep(1)
        idle = memory_mb(f.clients[0].p.pid)
        # a run of one round first: what is loaded once is not counted as processor time
        f.submit(f.write("one.yaml", PLAN.format(rounds=1, n=n, model=model)))
        f.finish(1)
        pids = [c.p.pid for c in f.clients.values()]
        server_cpu, client_cpu = cpu_s(f.server.p.pid), sum(map(cpu_s, pids))
        f.submit(f.write("plan.yaml", PLAN.format(rounds=rounds, n=n, model=model)))
        f.finish(2)
        server_cpu = cpu_s(f.server.p.pid) - server_cpu
        client_cpu = sum(map(cpu_s, pids)) - client_cpu
        lines = [o for o in f.report(2) if o["event"] == "round"]
        ms = sorted(1e3 * o["wall_s"] for o in lines[3:])
        payload = 2 * n * 4 * f.report(2)[0]["parameters"]
        wire = statistics.median(o["wire_bytes"] for o in lines[3:])
        time.sleep(4)
        after = memory_mb(f.clients[0].p.pid)
        row = {"model": model, "clients": n, "rounds": rounds, "median_ms": round(statistics.median(ms), 2),
               "server_cpu_ms": round(1e3 * server_cpu / rounds, 2),
               "client_cpu_ms_each": round(1e3 * client_cpu / rounds / n, 2), "best_ms": round(ms[0], 2), "p90_ms": round(ms[len(ms) * 9 // 10], 2),
               "wire_over_payload": round(wire / payload, 4), "start_s": round(start_s, 2),
               "idle_rss_mb": round(idle[0], 1), "idle_private_mb": round(idle[1], 1),
               "after_rss_mb": round(after[0], 1), "after_private_mb": round(after[1], 1),
               "client_peak_mb": round(peak_mb(f.clients[0].p.pid), 1),
               "server_peak_mb": round(peak_mb(f.server.p.pid), 1)}
        out.append(row)
        print(json.dumps(row), flush=True)


def main():
    cases = [("tiny", 10, 200), ("tiny", 50, 100), ("tiny", 100, 60), ("mlp", 10, 60), ("cnn", 10, 20)]
    only = sys.argv[1:]
    out = []
    for model, n, rounds in cases:
        if not only or f"{model}-{n}" in only:
            case(model, n, rounds, out)


if __name__ == "__main__":
    main()
