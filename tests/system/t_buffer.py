#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asynchronous aggregation as processes: kill -9 of coordinator and clients at random instants and at named crash
points loses no acknowledged update and counts none twice, and a replay of the record, simulated and by processes,
gives the run's model."""
import json
import os
import random
import time

from fleet import ROOT, Failure, Fleet, kill_at_random, main, simulate, wait_for

PLAN = os.path.join(ROOT, "plans", "lenet-20.yaml")
N = 8
BUFFER = 3
SETS = ["run.rounds=10", "run.eval_every=0", "data.limit=2400", f"data.partition.clients={N}",
        "selection.clients_per_round=5", "selection.deadline_s=600", "strategy.name=fedbuff",
        f"strategy.buffer={BUFFER}", "train.epochs=2"]
ARGS = [a for s in SETS for a in ("--set", s)]
POINTS = ["after_task", "after_spool", "after_journal", "after_ack", "before_commit", "after_commit"]


def rounds_of(record):
    return [o for o in record if o["event"] == "round"]


def digest_of(record):
    return next(o for o in record if o["event"] == "run_end")["model_digest"]


def check_record(record, what):
    """Whole buffers, each version once, no update twice, none of the future."""
    rounds = rounds_of(record)
    if [o["round"] for o in rounds] != list(range(10)):
        raise Failure(f"{what}: rounds {[o['round'] for o in rounds]}")
    seen = set()
    for o in rounds:
        pairs = list(zip(o["included"], o["starts"]))
        if len(pairs) != BUFFER or o["completed"] != BUFFER or len(set(o["included"])) != BUFFER:
            raise Failure(f"{what}: buffer {o['round']} has {pairs}")
        if seen & set(pairs) or any(start > o["round"] for _, start in pairs):
            raise Failure(f"{what}: buffer {o['round']} has {pairs} after {sorted(seen)}")
        seen |= set(pairs)


def acknowledged(f):
    """(client, version) of every update whose acknowledgement reached its client, by the clients' logs."""
    found = set()
    for i, c in f.clients.items():
        for line in c.text().splitlines():
            if "update accepted" in line:
                found.add((i, int(line.split(" round ")[1].split(":")[0])))
    return found


def check_run(f, run, what):
    f.finish(run)
    record = f.report(run)
    check_record(record, what)
    counted = {p for o in rounds_of(record) for p in zip(o["included"], o["starts"])}
    acks = acknowledged(f)
    lost = acks - counted
    if len(acks) < len(counted) // 2:
        raise Failure(f"{what}: only {len(acks)} acknowledgements in the clients' logs")
    if lost:
        raise Failure(f"{what}: acknowledged and not counted: {sorted(lost)}")
    path = f.write("record.jsonl", "".join(json.dumps(o) + "\n" for o in record))
    got = digest_of(simulate(PLAN, *ARGS, "--replay", path))
    if got != digest_of(record):
        raise Failure(f"{what}: replayed {got}, recorded {digest_of(record)}")
    return record


def storm(seed):
    """Kills at drawn instants until the run ends; returns how many hit."""
    with Fleet(N) as f:
        f.start()
        run = f.submit(PLAN, *SETS)
        hits = kill_at_random(f, run, seed, 10)
        record = check_run(f, run, f"seed {seed}, {hits}")
    ages = [o["round"] - s for o in rounds_of(record) for s in o["starts"]]
    return hits, sum(ages)


def kills_at_random_instants_lose_nothing_and_the_record_replays():
    coordinator = client = ages = 0
    seed = int(os.environ.get("STARLING_SEED", "21"))
    for i in range(8):
        hits, age = storm(seed + i)
        coordinator += hits["coordinator"]
        client += hits["client"]
        ages += age
        if coordinator >= 5 and client >= 5 and ages >= 10:
            print(f"{coordinator} coordinator and {client} client kills, {ages} versions of staleness", flush=True)
            return
    raise Failure(f"only {coordinator} and {client} kills hit, {ages} versions of staleness")


def processes_replay_a_record():
    with Fleet(N) as f:
        f.start()
        run = f.submit(PLAN, *SETS)
        record = check_run(f, run, "calm")
        path = f.write("record.jsonl", "".join(json.dumps(o) + "\n" for o in record))
        f.server.stop()
        f.start_server(args=["--plan", PLAN, *ARGS, "--replay", path, "--report", f.path("again.jsonl")])
        draw = random.Random(3)
        for _ in range(3): # killed while they train, most of them
            time.sleep(draw.uniform(0.1, 0.6)) # an instant, not a condition
            i = draw.randrange(N)
            f.clients[i].kill()
            f.clients[i].start()
        if f.server.wait(180) != 0:
            raise Failure(f"the replaying coordinator ended with {f.server.p.returncode}\n{f.server.tail()}")
        with open(f.path("again.jsonl")) as report:
            again = [json.loads(line) for line in report]
        if digest_of(again) != digest_of(record):
            raise Failure(f"replayed {digest_of(again)}, recorded {digest_of(record)}")


def crash_point(name):
    with Fleet(N) as f:
        f.start_server(env={"SL_CRASH_AT": name})
        for i in range(N):
            f.add_client(i)
        run = f.submit(PLAN, *SETS)
        wait_for(f"the coordinator to die at {name}", lambda: not f.server.alive())
        if f.server.p.returncode != -9:
            raise Failure(f"{name}: exit {f.server.p.returncode}, expected a kill")
        f.restart_server()
        f.wait_server()
        check_run(f, run, name)


def named(name):
    def test():
        crash_point(name)
    test.__name__ = f"a_kill_right_{name}_loses_nothing"
    return test


if __name__ == "__main__":
    main([kills_at_random_instants_lose_nothing_and_the_record_replays, processes_replay_a_record] +
         [named(p) for p in POINTS])
