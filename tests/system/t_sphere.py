#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SphereFed on real daemons: the fixed head, the calibration at the end, on demand and across a kill give
what the simulator gives, bit for bit; clients that come late add to it, and leave no trace when they go."""
from fleet import Fleet, Failure, main, simulate, wait_for

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


if __name__ == "__main__":
    main([daemons_calibrate_as_the_simulator_does,
          a_coordinator_killed_in_a_calibration_goes_on_with_it,
          a_calibration_on_demand_covers_who_is_enrolled_now,
          late_clients_add_and_who_leaves_is_subtracted_across_restarts,
          a_calibration_that_was_asked_for_is_made_after_a_kill])
