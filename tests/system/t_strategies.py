#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Strategies as processes: the simulated model, and the same after kill -9 of coordinator and clients at random
instants, which is where what SCAFFOLD's clients carry from round to round shows."""
import os

import npz
from fleet import ROOT, Failure, Fleet, kill_at_random, main, simulate

PLAN = os.path.join(ROOT, "plans", "lenet-20.yaml")
N = 8
SMALL = ["run.rounds=6", "run.eval_every=0", "data.limit=2400", f"data.partition.clients={N}",
         "selection.clients_per_round=6", "selection.deadline_s=600"]
STRATEGIES = {
    "scaffold": [],
    "fednova": [],
    "fedadam": ["strategy.eta=0.02"],
    "median": [],
}


def sets_of(name):
    return SMALL + [f"strategy.name={name}"] + STRATEGIES[name]


def simulated(name):
    report = simulate(PLAN, *[a for s in sets_of(name) for a in ("--set", s)])
    return next(o for o in report if o["event"] == "run_end")["model_digest"]


def processes_give_the_simulated_models():
    with Fleet(N) as f:
        f.start()
        for name in STRATEGIES:
            run = f.submit(PLAN, *sets_of(name))
            got = f.finish(run)["model_digest"]
            if got != simulated(name):
                raise Failure(f"{name}: {got}, simulated {simulated(name)}")


def the_best_model_is_exported_beside_the_last():
    """A round of huge steps spoils the model: the best one is not the last."""
    with Fleet(N) as f:
        f.start()
        run = f.submit(PLAN, *SMALL, "run.rounds=4", "run.eval_every=1", "train.lr_schedule.kind=step",
                       "train.lr_schedule.every=3", "train.lr_schedule.factor=3", "strategy.name=fedavgm",
                       "aggregation.max_abs=1000")
        end = f.finish(run)
        accuracy = [o["accuracy"] for o in f.report(run) if o["event"] == "round"]
        best = accuracy.index(max(accuracy))
        if best == 3:
            raise Failure(f"no round was better than the last: {accuracy}")
        if end["best"]["round"] != best or end["best"]["accuracy"] != accuracy[best]:
            raise Failure(f"best {end['best']} of {accuracy}")
        f.ctl("export", "-o", f.path("last.npz"))
        f.ctl("export", "--best", "-o", f.path("best.npz"))
        last, exported = (npz.load(f.path(name)) for name in ("last.npz", "best.npz"))
        again = simulate(PLAN, *[a for s in SMALL + [
            f"run.rounds={best + 1}", "run.eval_every=1", "strategy.name=fedavgm", "aggregation.max_abs=1000"]
            for a in ("--set", s)], "--model-out", f.path("again.npz"))
        if exported != npz.load(f.path("again.npz")) or exported == last:
            raise Failure(f"the exported model is not that of round {best}: {again[-1]['accuracy']}")


def storm(name, seed):
    """Kills at drawn instants until the run ends; returns how many hit."""
    with Fleet(N) as f:
        f.start()
        run = f.submit(PLAN, *sets_of(name))
        hits = kill_at_random(f, run, seed, 8)
        got = f.finish(run)["model_digest"]
        if got != simulated(name):
            raise Failure(f"{name}, seed {seed}: {got} after {hits}, undisturbed {simulated(name)}")
    return hits


def storms(name, seed):
    coordinator = client = 0
    for i in range(8):
        hits = storm(name, seed + i)
        coordinator += hits["coordinator"]
        client += hits["client"]
        if coordinator >= 4 and client >= 4:
            print(f"{name}: {coordinator} coordinator and {client} client kills", flush=True)
            return
    raise Failure(f"{name}: only {coordinator} and {client} kills hit")


SEED = int(os.environ.get("STARLING_SEED", "4"))


def kills_at_random_instants_leave_scaffolds_model_unchanged():
    storms("scaffold", SEED)


def kills_at_random_instants_leave_fednovas_model_unchanged():
    storms("fednova", SEED + 100)


if __name__ == "__main__":
    main([processes_give_the_simulated_models,
          the_best_model_is_exported_beside_the_last,
          kills_at_random_instants_leave_scaffolds_model_unchanged,
          kills_at_random_instants_leave_fednovas_model_unchanged])
