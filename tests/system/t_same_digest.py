#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One plan and seed give one model: simulated with one and two workers, as processes that enrol in any
order, and with every client's uploads delayed at random."""
import os
import random

from fleet import ROOT, Fleet, Failure, main, simulate
from proxy import DelayProxy

PLAN = os.path.join(ROOT, "plans", "lenet-20.yaml")
N = 20


def end_of(report):
    return next(o for o in report if o["event"] == "run_end")


def rounds_of(report):
    return [o for o in report if o["event"] == "round"]


def same(a, b, what):
    if a["model_digest"] != b["model_digest"]:
        raise Failure(f"{what}: {a['model_digest']} and {b['model_digest']}")


_reference = []


def reference():
    if not _reference:
        _reference.append(simulate(PLAN, "--jobs", "1"))
    return _reference[0]


def as_processes(order, delay_seed=None):
    with Fleet(N) as f:
        f.start_server()
        port = f.port
        proxies = []
        if delay_seed is not None:
            proxies = [DelayProxy(port, delay_seed * 1000 + i) for i in range(N)]
        try:
            for i in order:
                if proxies:
                    f.port = proxies[i].port
                f.add_client(i)
            f.port = port
            f.submit(PLAN)
            f.finish()
            return f.report()
        finally:
            for p in proxies:
                p.stop()


def two_workers_give_the_model_of_one():
    got = simulate(PLAN, "--jobs", "2")
    same(end_of(reference()), end_of(got), "--jobs 1 and --jobs 2")
    if [r["model_digest"] for r in rounds_of(got)] != [r["model_digest"] for r in rounds_of(reference())]:
        raise Failure("the rounds' digests differ")


def processes_that_enrol_in_any_order_give_the_simulated_model():
    seed = 20261124
    order = list(range(N))
    random.Random(seed).shuffle(order)
    got = as_processes(order)
    same(end_of(reference()), end_of(got), f"simulated and processes enrolled as {order}")
    for a, b in zip(rounds_of(reference()), rounds_of(got)):
        for key in ("bytes_up", "bytes_down", "selected", "completed", "accuracy", "train_loss"):
            if a[key] != b[key]:
                raise Failure(f"round {a['round']}: {key} is {a[key]} simulated, {b[key]} as processes")


def uploads_delayed_at_random_give_the_same_model():
    got = as_processes(range(N), delay_seed=7)
    same(end_of(reference()), end_of(got), "undisturbed and delayed")


if __name__ == "__main__":
    main([two_workers_give_the_model_of_one,
          processes_that_enrol_in_any_order_give_the_simulated_model,
          uploads_delayed_at_random_give_the_same_model])
