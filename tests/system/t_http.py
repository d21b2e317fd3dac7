#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The coordinator's status page and figures: what they show, and that they change nothing."""
import http.client
import json
import re
import socket

import fleet
from fleet import Failure, Fleet, free_port, run, wait_for

N = 3
PLAN = """run: {name: page <b>, seed: 5, rounds: 3}
data: {dataset: synthetic, limit: 300, test_limit: 100, partition: {kind: iid, clients: 3}}
model: {name: tiny}
train: {epochs: 1, batch_size: 32, lr: 0.1}
strategy: {name: fedavg}
selection: {policy: all}
"""


def page_at(port):
    return Fleet(N, server_conf=f"http: 127.0.0.1:{port}")


def get(port, path, method="GET", body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        c.request(method, path, body)
        r = c.getresponse()
        return r.status, dict(r.getheaders()), r.read().decode()
    finally:
        c.close()


def expect(port, path, status, says="", method="GET", body=None):
    got, headers, text = get(port, path, method, body)
    if got != status or says not in text:
        raise Failure(f"{method} {path}: {got} {text[:300]!r}, expected {status} with {says!r}")
    return headers, text


def the_page_shows_what_starlingctl_says():
    port = free_port()
    with page_at(port) as f:
        f.start()
        expect(port, "/explain.json", 404, "no run yet")
        f.submit(f.write("plan.yaml", PLAN))
        f.finish()
        headers, text = expect(port, "/", 200, "<title>Starling</title>")
        if "default-src 'none'" not in headers["Content-Security-Policy"]:
            raise Failure(f"headers: {headers}")
        if re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)", text):
            raise Failure("the page asks for something from elsewhere")
        report = json.loads(expect(port, "/report.json?run=1", 200)[1])["report"]
        if report != f.report():
            raise Failure("the page's report is not starlingctl's")
        tail = json.loads(expect(port, "/report.json?run=1&from=4", 200)[1])["report"]
        if tail != report[4:] or len(tail) != 1:
            raise Failure(f"from=4 gives {tail}")
        status = json.loads(expect(port, "/status.json", 200)[1])["status"]
        if status["runs"][0]["name"] != "page <b>" or status["runs"][0]["state"] != "done":
            raise Failure(f"status: {status['runs']}")
        clients = json.loads(expect(port, "/clients.json", 200)[1])["clients"]
        if [c["name"] for c in clients] != ["client-0", "client-1", "client-2"]:
            raise Failure(f"clients: {clients}")
        explained = json.loads(expect(port, "/explain.json?round=1", 200)[1])["explain"]
        if explained != report[2]:
            raise Failure(f"explain: {explained}")
        metrics = dict(l.rsplit(" ", 1) for l in expect(port, "/metrics", 200)[1].splitlines()
                       if not l.startswith("#"))
        for key, value in (("starling_clients_enrolled", 3), ("starling_round", 3), ("starling_rounds", 3),
                           ("starling_accuracy", report[-1]["accuracy"])):
            if float(metrics[key]) != value:
                raise Failure(f"{key} is {metrics[key]}, expected {value}")


def what_cannot_be_answered_is_an_error_and_changes_nothing():
    port = free_port()
    with page_at(port) as f:
        f.start_server()
        expect(port, "/report.json", 400, "run: the number of a run expected")
        expect(port, "/report.json?run=x", 400, "run: a whole number")
        expect(port, "/report.json?run=99999999999999999999", 400, "run: a whole number")
        expect(port, "/report.json?run=1&from=-1", 400, "from: a whole number")
        expect(port, "/drain.json", 404, "no such page")
        expect(port, "/../server.yaml", 404, "no such page")
        for method in ("POST", "PUT", "DELETE"):
            headers, _ = expect(port, "/status.json", 405, "only GET and HEAD", method, "x" * 100000)
            if headers["Allow"] != "GET, HEAD":
                raise Failure(f"Allow: {headers}")
        headers, _ = expect(port, "/status.json", 200, method="HEAD")
        with socket.create_connection(("127.0.0.1", port)) as s: # no request at all
            s.sendall(b"\0\xff nothing\r\n\r\n")
        expect(port, "/status.json", 200)
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(b"GET / HTTP/1.1\r\nX: " + b"y" * 100000)
            s.settimeout(20)
            try:
                answer = s.recv(4096)
            except ConnectionError:
                answer = b""
            if b"200" in answer.split(b"\r\n")[0]:
                raise Failure("an endless header is answered with 200")
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        f.status() # more connections than are served at once do not hold up the rest
        for s in idle:
            s.close()
        wait_for("the page to answer again", lambda: get(port, "/status.json")[0] == 200)
        out, err = run([fleet.SERVER, "--config", f.write("other.yaml", f"""listen: tcp://127.0.0.1:0
state_dir: {f.path("other")}
identity: {f.path("server.key")}
admin_socket: {f.path("other.sock")}
http: 127.0.0.1:{port}
""")], expect=None)
        if "http: 127.0.0.1" not in err or len(err.strip().splitlines()) != 1:
            raise Failure(f"a taken port: {err!r}")


if __name__ == "__main__":
    fleet.main([the_page_shows_what_starlingctl_says, what_cannot_be_answered_is_an_error_and_changes_nothing])
