#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole simulated rounds (100 clients, Dirichlet 0.3, 10 a round, batch 32, one worker), in samples per
processor second, beside what pfl-research did on this kind of machine (its figures are recorded, its
programs are not here). A run of few rounds is taken off a run of many: loading and start are not counted."""
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SIM = os.path.join(os.environ.get("STARLING_BUILD", os.path.join(ROOT, "build-test")), "sim", "starling-sim")
# plan, rounds of the short and the long run, multiply-adds of a sample's training, pfl-research, goal
CASES = [("baseline-mlp", 1, 21, 2 * 198800 + 42000, 25900, 2.0),
         ("baseline-lenet", 1, 6, 2 * 416520 + 298920, 6000, 1.5),
         ("baseline-cnn", 1, 3, 2 * 12273152 + 11645952, 785, 1.5)]


def run(plan, rounds, report):
    """(processor seconds, samples trained)"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([SIM, "run", os.path.join(ROOT, "plans", plan + ".yaml"), "--quiet", "--jobs", "1", "--report",
                    report, "--set", f"run.rounds={rounds}", "--set", "run.eval_every=0"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(report) as f:
        macs = sum(o["cost"]["macs"] for o in map(json.loads, f) if o["event"] == "round")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, macs


def main():
    with tempfile.TemporaryDirectory(prefix="sl") as d:
        report = os.path.join(d, "report.jsonl")
        for plan, few, many, macs, pfl, goal in CASES:
            rates = []
            for _ in range(3):
                short, long = run(plan, few, report), run(plan, many, report)
                rates.append((long[1] - short[1]) / macs / (long[0] - short[0]))
            rate = statistics.median(rates)
            print(f"{plan}: {rate:.0f} samples per processor second, pfl-research {pfl}: {rate / pfl:.2f} times "
                  f"(goal {goal})", flush=True)


sys.exit(main())
