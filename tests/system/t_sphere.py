#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SphereFed on real daemons: the fixed head, the calibration at the end, on demand and across a kill give
what the simulator gives, bit for bit; clients that come late add to it, and leave no trace when they go."""
import os
import re
import struct

import npz
from fleet import BUILD, CTL, SIM, Fleet, Failure, main, run, simulate, wait_for

ROGUE = os.path.join(BUILD, "tests", "system", "rogue")

N = 6
PLAN = """
run: {name: sphere, seed: 4, rounds: 3, eval_every: 1}
data:
  dataset: synthetic
  path: "height=8,width=8,classes=10,train=600,test=200"
  partition: {kind: dirichlet, alpha: 0.2, clients: 6, min_size: 5}
model: {name: mlp, head: sphere}
train: {epochs: 2, batch_size: 16, lr: 0.1}
selection: {clients_per_round: 3, deadline_s: 600}
calibration: {at_end: true, every: 2}
"""
KEYS = ("number", "round", "clients", "enrolled", "samples", "share", "lambda", "accuracy_before",
        "accuracy_after", "loss_before", "loss_after", "published", "adopted", "bytes_up", "bytes_down",
        "model_digest")


def lines(report, event):
    return [o for o in report if o["event"] == event]


def compare(a, b):
    ca, cb = lines(a, "calibration"), lines(b, "calibration")
    if len(ca) != len(cb) or len(ca) != 2:
        raise Failure(f"{len(ca)} and {len(cb)} calibrations")
    for x, y in zip(ca, cb):
        for key in KEYS:
            if x[key] != y[key]:
                raise Failure(f"calibration {x['number']}: {key} is {x[key]} simulated, {y[key]} as processes")
    x, y = lines(a, "run_end")[0], lines(b, "run_end")[0]
    for key in ("model_digest", "accuracy", "bytes_up", "bytes_down"):
        if x[key] != y[key]:
            raise Failure(f"run_end: {key} is {x[key]} simulated, {y[key]} as processes")


def write_plan(f):
    return f.write("sphere.yaml", PLAN)


def daemons_calibrate_as_the_simulator_does():
    with Fleet(N) as f:
        plan = write_plan(f)
        want = simulate(plan)
        f.start_server()
        for i in range(N):
            f.add_client(i)
        f.submit(plan)
        f.finish()
        compare(want, f.report())


def a_coordinator_killed_in_a_calibration_goes_on_with_it():
    for point in ("after_statistics", "before_calibration", "after_calibration"):
        with Fleet(N) as f:
            plan = write_plan(f)
            want = simulate(plan)
            f.start_server(env={"SL_CRASH_AT": point})
            for i in range(N):
                f.add_client(i)
            f.submit(plan)
            wait_for(f"the coordinator to die {point}", lambda: not f.server.alive())
            f.restart_server()
            f.finish()
            compare(want, f.report())


def a_calibration_on_demand_covers_who_is_enrolled_now():
    with Fleet(N) as f:
        plan = f.write("sphere.yaml", PLAN.replace("at_end: true, every: 2", "at_end: false"))
        f.start_server()
        for i in range(N):
            f.add_client(i)
        f.submit(plan)
        f.finish()
        if lines(f.report(), "calibration"):
            raise Failure("a calibration nobody asked for")
        f.ctl("calibrate")
        wait_for("the calibration", lambda: len(lines(f.report(), "calibration")) == 1)
        f.ctl("revoke", "5")
        f.ctl("calibrate")
        wait_for("the second calibration", lambda: len(lines(f.report(), "calibration")) == 2)
        first, second = lines(f.report(), "calibration")
        if first["clients"] != N or first["share"] != 1.0 or second["clients"] != N - 1 or \
                not second["samples"] < first["samples"]:
            raise Failure(f"{first} and {second}")


def calibrated(f, n):
    """Asks for a calibration; the n-th line of the report."""
    f.ctl("calibrate")
    wait_for(f"calibration {n}", lambda: len(lines(f.report(), "calibration")) == n + 1)
    return lines(f.report(), "calibration")[n]


def expect(line, clients, kept):
    if (line["clients"], line["kept"]) != (clients, kept):
        raise Failure(f"{clients} clients, {kept} of them kept, expected: {line}")


def late_clients_add_and_who_leaves_is_subtracted_across_restarts():
    with Fleet(N) as f:
        plan = f.write("sphere.yaml", PLAN.replace("at_end: true, every: 2", "at_end: false")
                       .replace("rounds: 3", "rounds: 3, min_clients: 5"))
        f.start_server()
        for i in range(N - 1):
            f.add_client(i)
        f.submit(plan)
        f.finish()
        first = calibrated(f, 0)
        expect(first, N - 1, 0)
        f.add_client(N - 1)
        wait_for("the late client", lambda: f.status()["clients"]["registered"] == N)
        expect(calibrated(f, 1), N, N - 1)
        f.server.kill()
        f.restart_server()
        f.wait_server()
        f.ctl("revoke", N - 1)
        last = calibrated(f, 2)
        expect(last, N - 1, N - 1)
        for key in ("samples", "lambda", "accuracy_after", "loss_after"):
            if last[key] != first[key]:
                raise Failure(f"{key} is {last[key]} after the late client left, {first[key]} before it came")
        if last["bytes_up"] != 0 or last["bytes_down"] != 0:
            raise Failure(f"somebody was asked again: {last}")


def a_calibration_that_was_asked_for_is_made_after_a_kill():
    with Fleet(N) as f:
        plan = f.write("sphere.yaml", PLAN.replace("at_end: true, every: 2", "at_end: false")
                       .replace("rounds: 3", "rounds: 60"))
        f.start_server(env={"SL_CRASH_AT": "after_wish"})
        for i in range(N):
            f.add_client(i)
        f.submit(plan)
        wait_for("a round", lambda: lines(f.report(), "round"))
        f.ctl("calibrate", expect=None)
        wait_for("the coordinator to die after the wish", lambda: not f.server.alive())
        f.restart_server()
        f.wait_server()
        line = wait_for("the calibration", lambda: lines(f.report(), "calibration"))[0]
        expect(line, N, 0)
        f.finish()
        if len(lines(f.report(), "calibration")) != 1:
            raise Failure("one wish, two calibrations")


def head_of(path):
    heads = [a for name, a in sorted(npz.load(path).items()) if a[1] == (10, 200)]
    if len(heads) != 1:
        raise Failure(f"{len(heads)} heads in {path}")
    return heads[0][2]


def the_head_keeps_its_bytes_through_every_round_and_its_rows_are_orthonormal():
    with Fleet(N) as f:
        plan = f.write("sphere.yaml", PLAN.replace("at_end: true, every: 2", "at_end: false")
                       .replace("clients_per_round: 3", "clients_per_round: 6"))
        f.start_server()
        for i in range(N):
            f.add_client(i)
        f.submit(plan)
        f.finish()
        f.ctl("export", "-o", f.path("end.npz"))
        run([SIM, "run", plan, "--quiet", "--set", "run.rounds=1", "--model-out", f.path("one.npz")])
        head = head_of(f.path("end.npz"))
        if head != head_of(f.path("one.npz")):
            raise Failure("the head after three rounds is not the head after one")
        rounds = lines(f.report(), "round")
        if [r["completed"] for r in rounds] != [N] * 3: # a training that moves its head fails (S1)
            raise Failure(f"{[r['not_included'] for r in rounds]}")
        w = struct.unpack("<2000f", head)
        for i in range(10):
            for j in range(i + 1):
                dot = sum(a * b for a, b in zip(w[200 * i:200 * i + 200], w[200 * j:200 * j + 200]))
                if abs(dot - (i == j)) >= 1e-6:
                    raise Failure(f"rows {i} and {j}: {dot}")


# What a client can send instead of its statistics, and the reason it is told. A V that is not symmetric is not
# among them: only its lower triangle travels.
POISON = [
    ("stat-nan", r"V has a value that is not finite"),
    ("stat-infinite", r"U has a value that is not finite"),
    ("stat-trace", r"trace of V is 20\.001 \(20 expected\)"),
    ("stat-semidefinite", r"not semidefinite"),
    ("stat-spread", r"not semidefinite"),
    ("stat-mean", r"sum of class 0 has length"),
    ("stat-counts", r"classes of 21 samples together"),
    ("stat-shape", r"another shape"),
    ("stat-said", r"statistics of 19 samples, said were 20"),
    ("stat-more", r"statistics of 21 samples \(1 to 20 enrolled\)"),
    ("stat-fewer", r"statistics of 19 samples \(20 enrolled\)"),
    ("stat-short", r"update of \d+ bytes \(\d+ expected\)"),
    ("stat-long", r"update of \d+ bytes \(\d+ expected\)"),
    ("stat-checksum", r"checksum"),
]
POISONED_PLAN = """
run: {name: poisoned, seed: 1, rounds: 1, eval_every: 1}
data: {dataset: synthetic, path: "height=8,width=8,classes=4,train=80,test=40", partition: {kind: iid, clients: 4}}
model: {name: tiny, head: sphere, width: 16}
train: {epochs: 1, batch_size: 10, lr: 0.05}
selection: {deadline_s: 600}
calibration: {max_share: 0.4}
"""


def poisoned_statistics_are_rejected_with_their_reason_and_the_others_make_the_head():
    with Fleet(3) as f:
        f.start_server()
        key = f.path("rogue.key")
        run([CTL, "keygen", key])
        token = f.write("rogue.token", f.ctl("token", "--index", 3), 0o600)

        def rogue(what, says, samples=20, token="-"):
            out, _ = run([ROGUE, str(f.port), f.key, key, token, "3", what, str(samples), "16", "4"], timeout=120)
            if not re.search(says, out):
                raise Failure(f"{what}: the coordinator answered {out!r}, expected /{says}/")

        rogue("register", r"^registered: 3", token=token)
        for i in range(3):
            f.add_client(i)
        f.submit(f.write("poisoned.yaml", POISONED_PLAN))
        rogue("honest", r"^put: accepted")
        f.finish()
        want = None
        cases = [(what, says, 20) for what, says in POISON]
        cases.append(("stat-share", r"statistics of 400 samples \(184 is a client's largest share\)", 400))
        for n, (what, says, samples) in enumerate(cases):
            f.ctl("calibrate")
            rogue(what, r"^put: rejected: .*" + says, samples)
            wait_for(f"calibration {n}", lambda: len(lines(f.report(), "calibration")) == n + 1)
            line = lines(f.report(), "calibration")[n]
            expect(line, 3, 0 if n == 0 else 3)
            left_out = line["not_included"]
            if [m["client"] for m in left_out] != [3] or not left_out[0]["reason"]:
                raise Failure(f"{what}: {left_out}")
            got = [line[k] for k in ("samples", "lambda", "accuracy_after", "loss_after")]
            want = want or got
            if got != want:
                raise Failure(f"{what}: {got}, without the rogue {want}")
        f.ctl("calibrate")
        rogue("stat-honest", r"^put: accepted")
        wait_for("the honest one", lambda: len(lines(f.report(), "calibration")) == len(cases) + 1)
        expect(lines(f.report(), "calibration")[-1], 4, 3)
        print(f"{len(cases)} kinds")


if __name__ == "__main__":
    main([daemons_calibrate_as_the_simulator_does,
          a_coordinator_killed_in_a_calibration_goes_on_with_it,
          a_calibration_on_demand_covers_who_is_enrolled_now,
          late_clients_add_and_who_leaves_is_subtracted_across_restarts,
          a_calibration_that_was_asked_for_is_made_after_a_kill,
          the_head_keeps_its_bytes_through_every_round_and_its_rows_are_orthonormal,
          poisoned_statistics_are_rejected_with_their_reason_and_the_others_make_the_head])
