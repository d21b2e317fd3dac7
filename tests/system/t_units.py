#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Emulated units and update encodings give one model: with any kernels, any number of workers, simulated
and as processes of which each has other kernels switched off."""
import os

from fleet import ROOT, Failure, Fleet, main, simulate

PLAN = os.path.join(ROOT, "plans", "lenet-20.yaml")
SMALL = ["data.limit=1500", "run.rounds=5"]
MASKS = ["", "vnni", "avx512", "avx2,avx512", "all"]


def sets(values):
    return [w for v in values for w in ("--set", v)]


def end_of(report):
    return next(o for o in report if o["event"] == "run_end")


def costs(report):
    return [o["cost"] for o in report if o["event"] == "round"]


def simulated(values, jobs=2, mask=""):
    os.environ["STARLING_CPU_MASK"] = mask
    try:
        return simulate(PLAN, "--jobs", str(jobs), *sets(SMALL + values))
    finally:
        del os.environ["STARLING_CPU_MASK"]


def as_processes(values):
    with Fleet(20) as f:
        f.start_server()
        for i in range(20):
            f.add_client(i, env={"STARLING_CPU_MASK": MASKS[i % 4]})
        f.submit(PLAN, *SMALL, *values)
        f.finish()
        return f.report()


def same(a, b, what):
    x, y = end_of(a), end_of(b)
    for key in ("model_digest", "accuracy", "bytes_up", "bytes_down"):
        if x[key] != y[key]:
            raise Failure(f"{what}: {key} {x[key]} and {y[key]}")
    if costs(a) != costs(b):
        raise Failure(f"{what}: costs differ")


def fast_training_is_one_model_with_any_kernels():
    values = ["accelerator.matmul=fast", "data.limit=600"] # plain C takes its time
    reference = simulated(values)
    if not costs(reference)[0]["cycles"] > 0:
        raise Failure("no cycles are counted")
    same(reference, simulated(values, jobs=1), "two workers and one")
    for mask in MASKS[1:]:
        same(reference, simulated(values, mask=mask), f"all kernels and without {mask}")


def fast_training_is_one_model_simulated_and_as_processes():
    for values in (["accelerator.matmul=fast"],
                   ["accelerator.matmul=fast", "accelerator.precision=high", "accelerator.round_gradient=lfsr"]):
        same(simulated(values), as_processes(values), " ".join(values))


def encoded_updates_give_one_model_simulated_and_as_processes():
    fp32 = end_of(simulated([]))["bytes_up"]
    for values, most in ((["uplink.encoding=ternary"], 2.1), (["uplink.encoding=bfp"], 6.4),
                         (["uplink.encoding=bf16"], 16.1)):
        report = simulated(values)
        same(report, as_processes(values), values[0])
        n = next(o for o in report if o["event"] == "run_start")["parameters"]
        updates = sum(o["completed"] for o in report if o["event"] == "round")
        overhead = fp32 - 4 * n * updates # of polls, headers and seals, with the larger updates
        bits = 8 * (end_of(report)["bytes_up"] - overhead) / n / updates
        if not 0 < bits <= most:
            raise Failure(f"{values[0]}: {bits} bits a value (at most {most})")


def a_client_computes_on_its_own_hardware():
    """A client's hardware wins over the plan's: the model is another, and its cost is counted."""
    with Fleet(20) as f:
        f.start_server()
        for i in range(20):
            f.add_client(i, conf="hardware: {matmul: fast, precision: high}" if i == 4 else "")
        f.submit(PLAN, *SMALL, "run.rounds=1")
        f.finish()
        report = f.report()
    if 4 not in next(o for o in report if o["event"] == "round")["members"]:
        raise Failure("client 4 took no part")
    plain = simulate(PLAN, *sets(SMALL + ["run.rounds=1"]))
    if end_of(plain)["model_digest"] == end_of(report)["model_digest"] or not costs(report)[0]["cycles"] > 0:
        raise Failure("client 4 did not use its unit")


def many_runs_give_one_model():
    """What goes wrong once in a while: the same run again and again in the same processes."""
    with Fleet(20) as f:
        f.start()
        seen = set()
        for _ in range(12):
            run = f.submit(PLAN, *SMALL, "run.rounds=2")
            f.finish(run)
            seen.add(next(o for o in f.report(run) if o["event"] == "run_end")["model_digest"])
        if len(seen) != 1:
            raise Failure(f"{len(seen)} models of equal runs")


main([fast_training_is_one_model_with_any_kernels,
      fast_training_is_one_model_simulated_and_as_processes,
      encoded_updates_give_one_model_simulated_and_as_processes,
      a_client_computes_on_its_own_hardware,
      many_runs_give_one_model])
