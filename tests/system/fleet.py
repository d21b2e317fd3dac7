# SPDX-License-Identifier: Apache-2.0
"""A coordinator and its clients as real processes on loopback, for the system tests.

Everything a test starts lives in one temporary folder and ends with the `with` block. Tests wait for
conditions, never for a time; what does not come within a minute is a failure that shows the logs.
"""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("STARLING_BUILD", os.path.join(ROOT, "build-test"))
SERVER = os.path.join(BUILD, "server", "starling-server")
CLIENT = os.path.join(BUILD, "client", "starling-client")
CTL = os.path.join(BUILD, "server", "starlingctl")
SIM = os.path.join(BUILD, "sim", "starling-sim")
PATIENCE_S = float(os.environ.get("STARLING_PATIENCE", "60"))


class Failure(Exception):
    pass


def wait_for(what, condition, patience=PATIENCE_S, period=0.02):
    """Calls condition() until it returns something true, and returns that."""
    end = time.monotonic() + patience
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise Failure(f"waited {patience:.0f} s for {what}")
        time.sleep(period)


def environment(extra=None):
    env = dict(os.environ, OPENBLAS_NUM_THREADS="1")
    env.pop("JOURNAL_STREAM", None)
    env.pop("NOTIFY_SOCKET", None)
    env.update(extra or {})
    return env


def run(args, expect=0, env=None, timeout=PATIENCE_S * 5, cwd=None):
    """Runs a program to its end; returns (stdout, stderr)."""
    p = subprocess.run(args, capture_output=True, text=True, timeout=timeout,
                       env=environment(env), cwd=cwd)
    if expect is not None and p.returncode != expect:
        raise Failure(f"{' '.join(map(str, args))}\nexit {p.returncode}, expected {expect}\n"
                      f"{p.stdout[-2000:]}\n{p.stderr[-2000:]}")
    return p.stdout, p.stderr


class Daemon:
    """One process that can be killed and started again."""

    def __init__(self, args, log, env=None):
        self.args, self.log, self.env, self.p = args, log, env or {}, None

    def start(self, env=None):
        out = open(self.log, "ab")
        self.p = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                  env=environment({**self.env, **(env or {})}))
        out.close()
        return self

    def alive(self):
        return self.p is not None and self.p.poll() is None

    def kill(self):
        if self.p is not None:
            self.p.kill()
            self.p.wait()

    def stop(self, expect=0, patience=20):
        if self.p is None:
            return None
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGTERM)
        try:
            code = self.p.wait(patience)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            raise Failure(f"{self.args[0]} did not end within {patience} s of SIGTERM\n{self.tail()}")
        if expect is not None and code != expect:
            raise Failure(f"{self.args[0]} ended with {code}, expected {expect}\n{self.tail()}")
        return code

    def wait(self, patience=PATIENCE_S):
        try:
            return self.p.wait(patience)
        except subprocess.TimeoutExpired:
            raise Failure(f"{' '.join(self.args)} still runs after {patience} s\n{self.tail()}")

    def tail(self, n=30):
        try:
            with open(self.log, errors="replace") as f:
                return "".join(f.readlines()[-n:])
        except OSError:
            return ""

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()


def free_port():
    """A port below those that the kernel gives to connections: a client that dials a coordinator which is
    down can then not get the coordinator's own port, and two fleets stay out of each other's way."""
    for port in random.SystemRandom().sample(range(12000, 32000), 100):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failure("none of 100 ports drawn from 12000 to 31999 is free")


class Fleet:
    """with Fleet(20) as f: f.start(); f.submit(plan); f.finish()"""

    def __init__(self, n_clients, server_conf="", client_conf="", env=None, log="debug"):
        self.n, self.log = n_clients, log
        self.dir = tempfile.mkdtemp(prefix="sl")
        self.socket = os.path.join(self.dir, "admin.sock")
        self.server_conf, self.client_conf, self.env = server_conf, client_conf, env or {}
        self.server, self.clients, self.port, self.key = None, {}, free_port(), ""

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for d in list(self.clients.values()) + [self.server]:
            if d is not None:
                d.kill()
        if kind is not None:
            print("--- coordinator's log", file=sys.stderr)
            if self.server is not None:
                print(self.server.tail(40), file=sys.stderr)
            for i in sorted(self.clients)[:3]:
                print(f"--- client {i}'s log\n{self.clients[i].tail(15)}", file=sys.stderr)
        shutil.rmtree(self.dir, ignore_errors=True)
        return False

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def write(self, name, text, mode=0o644):
        path = self.path(name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    # --- coordinator

    def write_server_config(self):
        os.makedirs(self.path("server"), exist_ok=True)
        return self.write("server.yaml", f"""listen: tcp://127.0.0.1:{self.port}
state_dir: {self.path("server")}
identity: {self.path("server.key")}
admin_socket: {self.socket}
log: {self.log}
{self.server_conf}
""")

    def start_server(self, env=None, args=()):
        if not os.path.exists(self.path("server.key")):
            self.key = run([CTL, "keygen", self.path("server.key")])[0].strip()
        conf = self.write_server_config()
        self.server = Daemon([SERVER, "--config", conf, *args], self.path("server.log"), self.env)
        self.server.start(env)
        self.wait_server()
        return self

    def wait_server(self):
        def up():
            if not self.server.alive():
                raise Failure(f"the coordinator ended with {self.server.p.returncode}\n{self.server.tail()}")
            return self.status(check=False)
        return wait_for("the coordinator to answer", up)

    def restart_server(self, env=None):
        self.write_server_config()
        self.server.start(env)

    def ctl(self, *args, expect=0):
        return run([CTL, "--socket", self.socket, *map(str, args)], expect)[0]

    def status(self, check=True):
        p = subprocess.run([CTL, "--socket", self.socket, "status", "--json"], capture_output=True,
                           text=True, timeout=PATIENCE_S, env=environment())
        if p.returncode != 0:
            if check:
                raise Failure(f"status: {p.stderr}")
            return None
        return json.loads(p.stdout)

    # --- clients

    def add_client(self, i, start=True, conf="", index=None, env=None):
        d = self.path(f"c{i}")
        os.makedirs(os.path.join(d, "state"), exist_ok=True)
        index = i if index is None else index
        if not os.path.exists(os.path.join(d, "token")):
            token = self.ctl("token", "--index", index)
            self.write(f"c{i}/token", token, 0o600)
        path = self.write(f"c{i}/client.yaml", f"""coordinator: tcp://127.0.0.1:{self.port}
coordinator_key: {self.key}
identity: {d}/key
join_token_file: {d}/token
name: client-{i}
index: {index}
state_dir: {d}/state
log: {self.log}
{self.client_conf}
{conf}
""")
        self.clients[i] = Daemon([CLIENT, "--config", path], os.path.join(d, "log"), self.env)
        if start:
            self.clients[i].start(env)
        return self.clients[i]

    def start(self, order=None):
        self.start_server()
        for i in (order if order is not None else range(self.n)):
            self.add_client(i)
        return self

    # --- runs

    def submit(self, plan, *sets, seed=None):
        args = ["submit", plan]
        for s in sets:
            args += ["--set", s]
        if seed is not None:
            args += ["--seed", seed]
        return int(self.ctl(*args).split()[1])

    def report(self, run_id=1):
        return [json.loads(l) for l in self.ctl("report", "--run", run_id).splitlines()]

    def run_end(self, run_id=1):
        p = subprocess.run([CTL, "--socket", self.socket, "report", "--run", str(run_id)],
                           capture_output=True, text=True, timeout=PATIENCE_S, env=environment())
        if p.returncode != 0:
            return None
        for line in p.stdout.splitlines():
            o = json.loads(line)
            if o["event"] == "run_end":
                return o
        return None

    def finish(self, run_id=1, patience=PATIENCE_S * 3):
        def ended():
            if not self.server.alive():
                raise Failure(f"the coordinator ended with {self.server.p.returncode}\n{self.server.tail()}")
            return self.run_end(run_id)
        return wait_for(f"run {run_id} to end", ended, patience, 0.1)


def kill_at_random(fleet, run, seed, most):
    """Kills and starts processes at drawn instants until the run ends or `most` were hit; how many of each."""
    draw = random.Random(seed)
    hits = {"coordinator": 0, "client": 0}
    while fleet.run_end(run) is None and sum(hits.values()) < most:
        time.sleep(draw.uniform(0.05, 0.5)) # an instant, not a condition
        if draw.random() < 0.4:
            fleet.server.kill()
            fleet.restart_server()
            fleet.wait_server()
            hits["coordinator"] += 1
        else:
            client = fleet.clients[draw.randrange(len(fleet.clients))]
            client.kill()
            client.start()
            hits["client"] += 1
    return hits


def simulate(plan, *args):
    """Runs the plan in the simulator; returns its report as a list of objects."""
    with tempfile.TemporaryDirectory(prefix="sl") as d:
        report = os.path.join(d, "report.jsonl")
        run([SIM, "run", plan, "--quiet", "--report", report, *args])
        with open(report) as f:
            return [json.loads(l) for l in f]


def main(tests):
    """Runs test functions; their names are sentences. Prints cmocka's closing lines."""
    only = sys.argv[1:]
    passed, failed = 0, []
    for t in tests:
        if only and t.__name__ not in only:
            continue
        began = time.monotonic()
        try:
            t()
            passed += 1
            print(f"[       OK ] {t.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception as e:  # a failed test is reported and the next one runs
            failed.append(t.__name__)
            print(f"[  FAILED  ] {t.__name__}: {e}", flush=True)
    print(f"[  PASSED  ] {passed} test(s).")
    if failed:
        print(f"[  FAILED  ] {len(failed)} test(s), listed below:")
        for f in failed:
            print(f"[  FAILED  ] {f}")
    sys.exit(1 if failed else 0)
