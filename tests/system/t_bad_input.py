#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input, case by case: the documented exit code or rejection, one clear line, the coordinator stays
up, and the run ends right."""
import gzip
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile

from fleet import BUILD, CLIENT, CTL, ROOT, SERVER, SIM, Failure, Fleet, environment, main, run, wait_for

ROGUE = os.path.join(BUILD, "tests", "system", "rogue")
PLAN = """run: {name: bad, seed: 1, rounds: 2}
data: {dataset: synthetic, path: "height=8,width=8,classes=4,train=80,test=40", partition: {kind: iid, clients: 4}}
model: {layers: [flatten, {dense: 4}]}
train: {epochs: 1, batch_size: 10, lr: 0.05}
"""


def one_line(args, code, says, cwd=None, env=None):
    """The program ends with code and prints exactly one line, which matches says, on stderr."""
    _, err = run(args, expect=code, cwd=cwd, env=env, timeout=60)
    lines = [l for l in err.splitlines() if l.strip()]
    if len(lines) != 1:
        raise Failure(f"{args}: {len(lines)} lines on stderr:\n{err}")
    if not re.search(says, lines[0]):
        raise Failure(f"{args}: said {lines[0]!r}, expected /{says}/")


# --- plans: replacements in PLAN (or appended lines), what the line must say

BAD_PLANS = [
    ("rounds: 2", "rounds: -1", r"plan\.yaml:1: .*run\.rounds.*-1"),
    ("rounds: 2", "rounds: 0", r"run\.rounds.*0 .*1"),
    ("rounds: 2", "rounds: 2.5", r"run\.rounds"),
    ("rounds: 2", "rounds: many", r"run\.rounds"),
    ("rounds: 2", "rounds: 5s", r"run\.rounds"),
    ("seed: 1", "seed: -4", r"run\.seed"),
    ("seed: 1", "sede: 1", r"sede"),
    ("clients: 4", "clients: 0", r"clients"),
    ("clients: 4", "clients: 81", r"81.*80|80.*81"),
    ("clients: 4", "clients: 4, alpha: 1", r"alpha"),
    ("kind: iid", "kind: dirichlet, alpha: 0", r"alpha.*0"),
    ("kind: iid", "kind: dirichlet, alpha: .nan", r"alpha"),
    ("kind: iid", "kind: dirichlet, alpha: -1", r"alpha"),
    ("kind: iid", "kind: horizontal", r"kind.*horizontal"),
    ("kind: iid", "kind: shards, shards_per_client: 0", r"shards_per_client"),
    ("dataset: synthetic", "dataset: imagenet", r"imagenet"),
    ("height=8", "height=0", r"height"),
    ("{dense: 4}", "{dense: 5}", r"model|dense|classes"),
    ("{dense: 4}", "{dnse: 4}", r"dnse"),
    ("{dense: 4}", "{dense: -4}", r"dense|out"),
    ("flatten, ", "flatten, {conv2d: {out: 4, kernel: 3}}, ", r"model|conv2d"),
    ("layers: [flatten, {dense: 4}]", "name: gpt", r"gpt"),
    ("layers: [flatten, {dense: 4}]", "name: lenet, layers: [flatten]", r"model"),
    ("lr: 0.05", "lr: 0", r"train\.lr"),
    ("lr: 0.05", "lr: .inf", r"train\.lr"),
    ("lr: 0.05", "lr: fast", r"train\.lr"),
    ("epochs: 1", "epochs: 0", r"epochs"),
    ("batch_size: 10", "batch_size: -1", r"batch_size"),
    ("batch_size: 10", "momentum: 1.5", r"momentum"),
    ("batch_size: 10", "optimizer: lion", r"lion"),
    ("", "strategy: {name: fedprox}", r"fedprox.*fedavg"),
    ("", "selection: {policy: oort}", r"oort"),
    ("", "selection: {quorum: 0}", r"quorum"),
    ("", "selection: {quorum: 1.5}", r"quorum"),
    ("", "selection: {clients_per_round: 9}", r"clients_per_round"),
    ("", "selection: {over_select: 0.5}", r"over_select"),
    ("", "selection: {deadline_s: 0}", r"deadline_s"),
    ("", "selection: {deadline_s: 5m}", r"deadline_s"),
    ("", "selection: {policy: file, path: nowhere.txt}", r"nowhere"),
    ("", "aggregation: {max_abs: 0}", r"max_abs"),
    ("", "aggregation: {fraction_bits: 99}", r"fraction_bits"),
    ("", "accelerator: {matmul: tpu}", r"tpu"),
    ("", "uplink: {encoding: zip}", r"zip"),
    ("", "evaluation: {holdout: 2}", r"holdout"),
    ("", "telemetry: {gate: open}", r"gate|open"),
    ("", "extra: 1", r"extra"),
    ("", "run: {name: again}", r"run"),
    ("", "x: [", r"plan\.yaml:\d"),
    ("", "a: &b 1", r"plan\.yaml:\d"),
]


def each_bad_plan_is_one_line_and_exit_2():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "plan.yaml")
        for old, new, says in BAD_PLANS:
            text = PLAN.replace(old, new, 1) if old else PLAN + new + "\n"
            if text == PLAN:
                raise Failure(f"the case {old!r} -> {new!r} changes nothing")
            with open(path, "w") as f:
                f.write(text)
            one_line([SIM, "run", path, "--quiet"], 2, says)
    print(f"{len(BAD_PLANS)} plans")


def idx(magic, dims, payload):
    return struct.pack(">I", magic) + b"".join(struct.pack(">I", n) for n in dims) + payload


def each_bad_data_file_is_one_line_and_exit_2():
    images = idx(0x803, (40, 8, 8), bytes(40 * 64))
    labels = idx(0x801, (40,), bytes(i % 4 for i in range(40)))
    good = {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels,
            "t10k-images-idx3-ubyte": images, "t10k-labels-idx1-ubyte": labels}
    tr = "train-images-idx3-ubyte"
    cases = [
        (tr, images[:-1], r"train-images"),
        (tr, images[:3], r"train-images"),
        (tr, b"\0\0\x09\x03" + images[4:], r"magic|type"),
        (tr, images + b"x", r"train-images"),
        (tr, idx(0x803, (0, 8, 8), b""), r"train-images"),
        (tr, idx(0x803, (41, 8, 8), bytes(41 * 64)), r"41|40"),
        (tr, b"", r"train-images"),
        (tr + ".gz", gzip.compress(images)[:-20], r"train-images"),
        (tr + ".gz", gzip.compress(images)[:5], r"train-images"),
        ("train-labels-idx1-ubyte", None, r"train-labels"),
    ]
    with tempfile.TemporaryDirectory() as d:
        plan = os.path.join(d, "plan.yaml")
        with open(plan, "w") as f:
            f.write(PLAN.replace("dataset: synthetic", "dataset: idx")
                    .replace('"height=8,width=8,classes=4,train=80,test=40"', "data"))
        for name, content, says in cases:
            folder = os.path.join(d, "data")
            shutil.rmtree(folder, ignore_errors=True)
            os.mkdir(folder)
            for n, c in good.items():
                if name in (n, n + ".gz"):
                    continue
                with open(os.path.join(folder, n), "wb") as f:
                    f.write(c)
            if content is not None:
                with open(os.path.join(folder, name), "wb") as f:
                    f.write(content)
            one_line([SIM, "run", plan, "--quiet"], 2, says)
        csv = os.path.join(d, "x.csv")
        with open(plan, "w") as f:
            f.write(PLAN.replace("dataset: synthetic", "dataset: csv")
                    .replace('"height=8,width=8,classes=4,train=80,test=40"', "x.csv"))
        for text in ("1,nan,0\n" * 50, "1,2,x\n" * 50, "1,2,0\n1,0\n" * 50, "", "1,2,-1\n" * 50):
            with open(csv, "w") as f:
                f.write(text)
            one_line([SIM, "run", plan, "--quiet"], 2, r"x\.csv")


def bad_usage_is_one_line_and_exit_2():
    with tempfile.TemporaryDirectory() as d:
        conf = os.path.join(d, "s.yaml")
        plan = os.path.join(d, "plan.yaml")
        with open(plan, "w") as f:
            f.write(PLAN)
        for args, says in [
            ([SIM], r"usage|command|verb"),
            ([SIM, "fly"], r"fly"),
            ([SIM, "run"], r"run|plan"),
            ([SIM, "run", d + "/none.yaml"], r"none\.yaml"),
            ([SIM, "run", plan, "--warp"], r"warp"),
            ([SIM, "run", plan, "--set", "train.lr"], r"train\.lr"),
            ([SIM, "run", plan, "--set", "train.lr=-1"], r"train\.lr.*-1"),
            ([SIM, "run", plan, "--set", "train.speed=1"], r"speed"),
            ([SIM, "run", plan, "--seed", "x"], r"seed"),
            ([SIM, "run", plan, "--jobs", "0"], r"jobs"),
            ([SIM, "run", plan, "--model-out", d + "/m.txt"], r"m\.txt"),
            ([SIM, "check", d + "/none"], r"none"),
            ([SIM, "experiment"], r"experiment wants a NAME"),
            ([SIM, "experiment", "alchemy", "--out", d], r"alchemy.*fast"),
            ([SIM, "experiment", "fast"], r"--out"),
            ([SIM, "experiment", "fast", "--out", plan], r"plan\.yaml"),
            ([SIM, "experiment", "fast", "--out", d, "--only", "slow/*"], r"slow.*--list"),
            ([SIM, "experiment", "fast", "--out", d, "--seeds", "1,x"], r"seeds.*x"),
            ([SIM, "experiment", "fast", "--out", d, "--seeds", "1,2,1"], r"1 twice"),
            ([SIM, "experiment", "fast", "--out", d, "--seeds", ""], r"seeds"),
            ([SIM, "experiment", "fast", "--out", d, "--jobs", "0"], r"jobs"),
            ([SIM, "experiment", "fast", "--out", d, "--set", "run.seed=1"], r"experiment does not take"),
            ([SIM, "run", plan, "--quick"], r"run does not take"),
            ([SERVER], r"--config"),
            ([SERVER, "--config", d + "/none.yaml"], r"none\.yaml"),
            ([CLIENT], r"--config"),
            ([CLIENT, "--config", d + "/none.yaml"], r"none\.yaml"),
            ([CTL], r"command"),
            ([CTL, "dance"], r"dance"),
            ([CTL, "revoke"], r"revoke"),
        ]:
            one_line(args, 2, says)
        for text, says in [
            ("listen: tcp://127.0.0.1:0\n", r"state_dir"),
            (f"listen: tcp://127.0.0.1:0\nstate_dir: {d}\nidentity: {d}/none\nadmin_socket: {d}/a\n", r"identity|none"),
            (f"listen: here\nstate_dir: {d}\nidentity: k\nadmin_socket: {d}/a\n", r"here|identity"),
            (f"listen: tcp://127.0.0.1:0\nstate_dir: {d}\nidentity: k\nadmin_socket: {d}/a\nhttp: 80\n", r"http"),
            (f"listen: tcp://127.0.0.1:0\nstate_dir: {d}\nidentity: k\nadmin_socket: {d}/a\nlog: loud\n", r"log.*loud"),
        ]:
            with open(conf, "w") as f:
                f.write(text)
            one_line([SERVER, "--config", conf, "--check"], 2, says)
        for text, says in [
            ("coordinator: tcp://127.0.0.1:1\n", r"state_dir|coordinator_key"),
            (f"coordinator: tcp://127.0.0.1:1\ncoordinator_key: 12\nstate_dir: {d}\n", r"coordinator_key"),
            (f"coordinator: tcp://127.0.0.1:1\ncoordinator_key: {'0' * 64}\nstate_dir: {d}\njoin_token: x\n", r"coordinator_key|token"),
        ]:
            with open(conf, "w") as f:
                f.write(text)
            one_line([CLIENT, "--config", conf, "--check"], 2, says)


def state_directories_and_ports():
    with Fleet(0) as f:
        f.start_server()
        # the port is taken
        other = f.path("other")
        os.mkdir(other)
        conf = f.write("other.yaml", f"listen: tcp://127.0.0.1:{f.port}\nstate_dir: {other}\n"
                       f"identity: {f.path('server.key')}\nadmin_socket: {f.path('b.sock')}\nlog: error\n")
        one_line([SERVER, "--config", conf], 1, r"127\.0\.0\.1|listen|address")
        # the state directory is in use
        conf = f.write("same.yaml", f"listen: tcp://127.0.0.1:0\nstate_dir: {f.path('server')}\n"
                       f"identity: {f.path('server.key')}\nadmin_socket: {f.path('b.sock')}\nlog: error\n")
        one_line([SERVER, "--config", conf], 4, r"server")
        # it is no directory
        f.write("file", "x")
        conf = f.write("file.yaml", f"listen: tcp://127.0.0.1:0\nstate_dir: {f.path('file')}\n"
                       f"identity: {f.path('server.key')}\nadmin_socket: {f.path('b.sock')}\nlog: error\n")
        one_line([SERVER, "--config", conf], 4, r"file")
        # its journal is damaged
        bad = f.path("bad")
        os.mkdir(bad)
        with open(os.path.join(bad, "starling.db"), "wb") as g:
            g.write(os.urandom(8192))
        conf = f.write("bad.yaml", f"listen: tcp://127.0.0.1:0\nstate_dir: {bad}\n"
                       f"identity: {f.path('server.key')}\nadmin_socket: {f.path('b.sock')}\nlog: error\n")
        one_line([SERVER, "--config", conf], 4, r"starling\.db|journal|database")
        # a key that others can read
        key = f.path("open.key")
        shutil.copy(f.path("server.key"), key)
        os.chmod(key, 0o644)
        conf = f.write("open.yaml", f"listen: tcp://127.0.0.1:0\nstate_dir: {other}\n"
                       f"identity: {key}\nadmin_socket: {f.path('b.sock')}\nlog: error\n")
        one_line([SERVER, "--config", conf], 2, r"open\.key")
        f.server.stop()


# --- misdeeds of a client that speaks the protocol: what the coordinator answers

MISDEEDS = [
    # (misdeed, answer, spends the member's turn in this round)
    ("tamper", r"^no answer"),
    ("unknown-session", r"^no session"),
    ("truncate", r"^no answer"),
    ("version", r"^no answer"),
    ("replay", r"^registered: 3"),
    ("name", r"^ack: refused: .*control character"),
    ("direction", r"^ack: refused: .*other way"),
    ("garbage-plain", r"^ack: refused"),
    ("garbage-frame", r"^no answer"),
    ("oversize", r"^no answer"),
    ("empty", r"^ack: refused"),
    ("chunk-unknown", r"^chunk: not found"),
    ("chunk-beyond", r"^chunk: not found"),
    ("put-beyond", r"^ack: refused: .*of a blob of"),
    ("eval-foreign", r"^ack: refused"),
    ("failed-foreign", r"^ack: refused"),
    ("round", r"^put: stale: .*round"),
    ("run", r"^put: stale: .*run"),
]
UPDATE_MISDEEDS = [
    ("nan", r"^put: rejected: value \d+ is NaN"),
    ("inf", r"^put: rejected: value \d+ is infinite"),
    ("bound", r"^put: rejected: value 3 is beyond the bound"),
    ("weight-zero", r"^put: rejected: weight 0 "),
    ("weight-huge", r"^put: rejected: weight 1000000000000 "),
    ("weight-wrong", r"^put: rejected: weight 21 \(20 expected\)"),
    ("encoding", r"^put: rejected: encoding 7"),
    ("short", r"^put: rejected: update of \d+ bytes"),
    ("long", r"^put: rejected: update of \d+ bytes"),
    ("one-byte", r"^put: rejected: update of \d+ bytes"),
    ("checksum", r"^put: rejected: checksum"),
    ("fail-task", r"^ack: ok"),
]


def rogue(f, what, key, token="-", index=3, says=None, server_key=None):
    out, _ = run([ROGUE, str(f.port), server_key or f.key, key, token, str(index), what, "20"], timeout=120)
    if says and not re.search(says, out):
        raise Failure(f"{what}: the coordinator answered {out!r}, expected /{says}/")
    if not f.server.alive():
        raise Failure(f"{what}: the coordinator ended\n{f.server.tail()}")
    return out


def enrol_rogue(f):
    key = f.path("rogue.key")
    run([CTL, "keygen", key])
    token = f.write("rogue.token", f.ctl("token", "--index", 3), 0o600)
    rogue(f, "register", key, token, says=r"^registered: 3")
    return key, token


def a_client_that_misbehaves_gets_its_reason_and_the_run_ends_right():
    with Fleet(3) as f:
        f.start_server()
        key, token = enrol_rogue(f)
        rogue(f, "register", key, token, says=r"^registered: 3|^handshake: refused") # its token is used up
        other = f.path("other.key")
        run([CTL, "keygen", other])
        rogue(f, "register", other, token, says=r"^handshake: refused")       # a used token, another key
        rogue(f, "register", other, says=r"^handshake: refused.*not enrolled")     # a key nobody knows
        wrong = run([CTL, "pubkey", other])[0].strip()
        rogue(f, "register", key, says=r"^handshake: no answer", server_key=wrong) # pinned to another key
        plan = f.write("plan.yaml", PLAN + "selection: {quorum: 0.7}\n")
        for i in range(3):
            f.add_client(i)
        f.submit(plan)
        for what, says in MISDEEDS:
            rogue(f, what, key, says=says)
        rogue(f, "twice", key, says=r"^put: accepted: \nput: (accepted|stale): ") # counted once
        rogue(f, "honest", key, says=r"^put: accepted") # the second round
        end = f.finish()
        if end["failed"] or end["rounds"] != 2:
            raise Failure(f"the run ended with {end}")
        f.ctl("revoke", 3)
        rogue(f, "register", key, says=r"^handshake: refused.*revoked")


def each_bad_update_is_rejected_with_its_reason():
    with Fleet(3) as f:
        f.start()
        key, _ = enrol_rogue(f)
        plan = f.write("plan.yaml", PLAN + "selection: {quorum: 0.7}\n")
        for n, (what, says) in enumerate(UPDATE_MISDEEDS):
            run_id = f.submit(plan, "run.rounds=1")
            rogue(f, what, key, says=says)
            end = f.finish(run_id)
            if end["failed"]:
                raise Failure(f"{what}: the run ended with {end}")
            line = [o for o in f.report(run_id) if o["event"] == "round"][0]
            if line["completed"] != 3 or line["dropped"] != 1:
                raise Failure(f"{what}: completed {line['completed']}, dropped {line['dropped']}")
        print(f"{len(UPDATE_MISDEEDS)} updates")


def a_client_whose_key_is_refused_ends_with_3():
    with Fleet(1) as f:
        f.start()
        wait_for("the client to register", lambda: f.status()["clients"]["registered"] == 1)
        f.ctl("revoke", 0)
        f.clients[0].stop()
        f.clients[0].start()
        code = f.clients[0].wait()
        if code != 3:
            raise Failure(f"exit {code}, expected 3\n{f.clients[0].tail()}")


def a_full_disk_stops_nothing_for_good():
    if os.geteuid() != 0:
        print("skipped: mounting a tmpfs needs root")
        return
    with Fleet(4) as f:
        os.mkdir(f.path("server"))
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", f.path("server")]).returncode != 0:
            print("skipped: no tmpfs can be mounted here")
            return
        try:
            f.start()
            with open(f.path("server", "ballast"), "wb") as g:
                try:
                    g.write(bytes(2 << 20))
                except OSError:
                    pass
            plan = f.write("plan.yaml", PLAN)
            out = subprocess.run([CTL, "--socket", f.socket, "submit", plan], capture_output=True,
                                 text=True, env=environment())
            if out.returncode == 0:
                raise Failure("a run was queued on a full disk")
            if len(out.stderr.splitlines()) != 1:
                raise Failure(f"not one line: {out.stderr}")
            if not f.server.alive():
                raise Failure("the coordinator ended")
            os.unlink(f.path("server", "ballast"))
            run_id = f.submit(plan)
            if f.finish(run_id)["failed"]:
                raise Failure("the run failed after there was space again")
            f.server.stop()
        finally:
            for c in f.clients.values():
                c.kill()
            f.server.kill()
            subprocess.run(["umount", f.path("server")])


if __name__ == "__main__":
    main([each_bad_plan_is_one_line_and_exit_2, each_bad_data_file_is_one_line_and_exit_2,
          bad_usage_is_one_line_and_exit_2, state_directories_and_ports,
          a_client_that_misbehaves_gets_its_reason_and_the_run_ends_right,
          each_bad_update_is_rejected_with_its_reason,
          a_client_whose_key_is_refused_ends_with_3, a_full_disk_stops_nothing_for_good])
