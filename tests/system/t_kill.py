#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the coordinator and of clients, at random instants and at every named crash point: the run
goes on after the restart and ends with the model of the undisturbed run."""
import argparse
import os
import random
import sys
import time

import fleet
from fleet import ROOT, Failure, Fleet, simulate, wait_for

PLAN = os.path.join(ROOT, "plans", "lenet-20.yaml")
N = 20
SERVER_POINTS = ["after_spool", "after_journal", "after_ack", "after_add", "checkpoint_temp",
                 "checkpoint_rename", "before_commit", "after_commit"]
CLIENT_POINTS = ["client_after_store", "client_after_push"]

_digest = []


def undisturbed():
    if not _digest:
        _digest.append(next(o for o in simulate(PLAN) if o["event"] == "run_end")["model_digest"])
    return _digest[0]


def check(f, what):
    end = f.finish()
    if end["model_digest"] != undisturbed():
        raise Failure(f"{what}: digest {end['model_digest']}, undisturbed {undisturbed()}")
    rounds = [o["round"] for o in f.report() if o["event"] == "round"]
    if rounds != list(range(8)):
        raise Failure(f"{what}: rounds in the report are {rounds}")


def crash_point(name):
    """Every process of a kind starts with the crash point set once; who dies is started without it."""
    with Fleet(N) as f:
        on_server = name in SERVER_POINTS
        env = {"SL_CRASH_AT": name}
        f.start_server(env=env if on_server else None)
        for i in range(N):
            f.add_client(i, env=None if on_server else env)
        f.submit(PLAN)
        if on_server:
            wait_for(f"the coordinator to die at {name}", lambda: not f.server.alive())
            if f.server.p.returncode != -9:
                raise Failure(f"{name}: exit {f.server.p.returncode}, expected a kill")
            f.restart_server()
            f.wait_server()
        else:
            def one_died():
                return [i for i, c in f.clients.items() if not c.alive()]
            died = wait_for(f"a client to die at {name}", one_died)
            if f.clients[died[0]].p.returncode != -9:
                raise Failure(f"{name}: exit {f.clients[died[0]].p.returncode}, expected a kill")
            end = time.monotonic() + 120
            while f.run_end() is None and time.monotonic() < end:
                for c in f.clients.values(): # each dies once, at its first task
                    if not c.alive():
                        c.start()
                time.sleep(0.05)
        check(f, name)


def storm(n_coordinator, n_clients, seed):
    """Kills at drawn instants, spread over the run; each killed process is started again."""
    draw = random.Random(seed)
    with Fleet(N) as f:
        f.start()
        began = time.monotonic()
        f.submit(PLAN)
        kills = ["coordinator"] * n_coordinator + ["client"] * n_clients
        draw.shuffle(kills)
        done = []
        for kind in kills:
            time.sleep(draw.uniform(0.05, 0.6)) # an instant, not a condition
            if f.server.alive() and f.run_end() is not None:
                break
            if kind == "coordinator":
                f.server.kill()
                time.sleep(draw.uniform(0, 0.3))
                f.restart_server()
                f.wait_server()
            else:
                i = draw.randrange(N)
                f.clients[i].kill()
                time.sleep(draw.uniform(0, 0.3))
                f.clients[i].start()
            done.append(kind)
        check(f, f"storm with seed {seed}")
        print(f"storm {seed}: {done.count('coordinator')} coordinator and {done.count('client')} client kills"
              f" in {time.monotonic() - began:.0f} s", flush=True)
        return done.count("coordinator"), done.count("client")


def storms(n_coordinator, n_clients, seed):
    """As many runs as it takes until so many kills have hit."""
    hit_c = hit_k = 0
    tries = 0
    while hit_c < n_coordinator or hit_k < n_clients:
        tries += 1
        if tries > 30:
            raise Failure(f"only {hit_c} + {hit_k} kills hit in {tries} runs")
        c, k = storm(min(5, max(0, n_coordinator - hit_c)), min(5, max(0, n_clients - hit_k)), seed + tries)
        hit_c += c
        hit_k += k


def kills_at_random_instants_leave_the_model_unchanged():
    storms(5, 5, int(os.environ.get("STARLING_SEED", "11")))


def named(name):
    def test():
        crash_point(name)
    test.__name__ = f"a_kill_{'at' if name.startswith('c') else 'right'}_{name}_leaves_the_model_unchanged"
    return test


if __name__ == "__main__":
    if "--kills" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--kills", type=int, required=True)
        parser.add_argument("--seed", type=int, default=100)
        a = parser.parse_args()
        sys.argv = sys.argv[:1]

        def long_storm_leaves_the_model_unchanged():
            storms(a.kills, a.kills, a.seed)
        fleet.main([long_storm_leaves_the_model_unchanged])
    else:
        fleet.main([kills_at_random_instants_leave_the_model_unchanged] +
                   [named(p) for p in SERVER_POINTS + CLIENT_POINTS])
