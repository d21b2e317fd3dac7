#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Selection after a probe, as processes: throttled clients report, wait, and go on or stop as a learned policy says;
the record replays in the simulator with the same decisions and the same model, also after kills. With
STARLING_CLIENTS=20 the form of 20 clients."""
import json
import os
import struct
import subprocess

from fleet import ROOT, SERVER, SIM, Failure, Fleet, environment, main, simulate, wait_for

PLAN = os.path.join(ROOT, "plans", "lenet-20.yaml")
POLICY = os.path.join(ROOT, "plans", "policies", "fedmarl.safetensors")
N = int(os.environ.get("STARLING_CLIENTS", "8"))
ROUNDS = 3 if N == 8 else 8
SETS = [f"run.rounds={ROUNDS}", f"data.limit={200 * N}", "data.test_limit=500", f"data.partition.clients={N}",
        "selection.clients_per_round=0", "selection.deadline_s=600", "train.epochs=3"]
PROBES = [*SETS, "selection.probe_epochs=1"]
PATIENT = "selection.probe_slack=1000" # whoever is slow for whatever reason is waited for
LEARNED = [*PROBES, PATIENT, "selection.policy=fedmarl", f"selection.policy_file={POLICY}"]
LOWEST = [*PROBES, PATIENT, "selection.policy=lowest-loss", f"selection.accept={N // 2}"]
RECORD_BYTES = 160


def args(sets):
    return [a for s in sets for a in ("--set", s)]


def rounds_of(record):
    return [o for o in record if o["event"] == "round"]


def digest_of(record):
    return next(o for o in record if o["event"] == "run_end")["model_digest"]


def verdicts(record):
    return [[(p["client"], p["verdict"]) for p in o["probes"]] for o in rounds_of(record)]


def start(f, slow):
    """Clients of four classes: 1, 2, 4, 8 times as slow, each times `slow`."""
    f.start_server()
    for i in range(f.n):
        f.add_client(i, conf=f"slowdown: {slow * 2 ** (i % 4)}")


def replay(f, run, sets, what):
    """The record, simulated, decides the same and ends with the same model."""
    f.finish(run)
    record = f.report(run)
    path = f.write("record.jsonl", "".join(json.dumps(o) + "\n" for o in record))
    again = simulate(PLAN, *args(sets), "--replay", path)
    if digest_of(again) != digest_of(record):
        raise Failure(f"{what}: replayed {digest_of(again)}, recorded {digest_of(record)}")
    if verdicts(again) != verdicts(record) or any(o["redecided"] for o in rounds_of(again)):
        raise Failure(f"{what}: recorded {verdicts(record)}, replayed {verdicts(again)}")
    return record


def throttled_clients_decide_as_the_replay_of_their_record():
    with Fleet(N) as f:
        start(f, 1)
        run = f.submit(PLAN, *LEARNED)
        record = replay(f, run, LEARNED, "fedmarl")
        everybody = f.submit(PLAN, *PROBES, "selection.policy=all")
        all_s = f.finish(everybody)["wall_s"]
        learned_s = next(o for o in record if o["event"] == "run_end")["wall_s"]
        counts = [(o["probed"], o["accepted"], o["stopped"]) for o in rounds_of(record)]
        if any(p != N or a + s != N or a < 1 for p, a, s in counts):
            raise Failure(f"probed, accepted, stopped: {counts}")
        rows = json.loads(f.ctl("explain", ROUNDS - 1, "--json"))
        size = os.path.getsize(f.path("server", f"run-{run}.marl"))
        if size != ROUNDS * N * RECORD_BYTES:
            raise Failure(f"{size} bytes of records")
        if len(rows.get("explain", rows)["probes"]) != N:
            raise Failure(f"explain: {rows}")
        print(f"probed, accepted, stopped: {counts}; {learned_s:.1f} s against {all_s:.1f} s", flush=True)


def kills_while_clients_wait_change_no_decision():
    with Fleet(N) as f:
        f.start_server()
        for i in range(N): # the last one keeps all others waiting
            f.add_client(i, conf="slowdown: 30" if i == N - 1 else "")
        run = f.submit(PLAN, *LOWEST)
        wait_for("a client to wait", lambda: "probe epoch: loss" in f.clients[0].text())
        first = f.clients[0].text().split("probe epoch: loss ")[1].split(",")[0]
        f.clients[0].kill()
        f.clients[0].start()
        wait_for("it to probe again", lambda: f.clients[0].text().count("probe epoch: loss") >= 2)
        if f.clients[0].text().split("probe epoch: loss ")[2].split(",")[0] != first:
            raise Failure(f"another probe after a kill\n{f.clients[0].text()}")
        f.server.kill() # before the first decision, and behind the next one
        f.restart_server(env={"SL_CRASH_AT": "after_decision"})
        f.server.wait()
        f.restart_server()
        record = replay(f, run, LOWEST, "kills")
    decisions = [o for o in record if o["event"] == "decision"]
    if [o["round"] for o in decisions] != list(range(ROUNDS)):
        raise Failure(f"decisions of rounds {[o['round'] for o in decisions]}")
    if any(o["stopped"] != N - N // 2 for o in rounds_of(record)):
        raise Failure(f"{verdicts(record)}")


def probes_that_let_everybody_go_on_change_nothing():
    want = digest_of(simulate(PLAN, *args(SETS)))
    with Fleet(N) as f:
        f.start()
        run = f.submit(PLAN, *PROBES)
        wait_for("a client to probe", lambda: any("probe epoch" in c.text() for c in f.clients.values()))
        f.clients[1].kill()
        f.clients[1].start()
        f.finish(run)
        got = digest_of(f.report(run))
    if got != want:
        raise Failure(f"{got} with probes, {want} without")


def other_shape(weights):
    """Another header: a tensor that no team has."""
    head = json.dumps({"fc1.weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(head)) + head + weights[:16]


def a_policy_file_that_cannot_be_used_is_refused_in_one_line():
    with open(POLICY, "rb") as policy:
        good = policy.read()
    bad = {"missing": None, "truncated": good[:len(good) // 2], "other shape": other_shape(good[-16:]),
           "nan": good[:-4] + struct.pack("<f", float("nan"))}
    with Fleet(0) as f:
        f.start_server()
        conf = f.write_server_config()
        f.server.stop()
        for what, content in bad.items():
            path = f.path(what.replace(" ", "_"))
            if content is not None:
                with open(path, "wb") as out:
                    out.write(content)
            sets = args([*PROBES, "selection.policy=fedmarl", f"selection.policy_file={path}"])
            for program in ([SIM, "run", PLAN, "--quiet"], [SERVER, "--config", conf, "--quiet", "--plan", PLAN]):
                p = subprocess.run([*program, *sets], capture_output=True, text=True, timeout=60, env=environment())
                lines = [l for l in p.stderr.splitlines() if l]
                if p.returncode != 2 or len(lines) != 1 or path not in lines[0]:
                    raise Failure(f"{what}: exit {p.returncode}: {p.stderr}")


main([throttled_clients_decide_as_the_replay_of_their_record, kills_while_clients_wait_change_no_decision,
      probes_that_let_everybody_go_on_change_nothing, a_policy_file_that_cannot_be_used_is_refused_in_one_line])
