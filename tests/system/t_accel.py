#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""starling-accel from the shell: the golden cases that its commands can express give the same bits, with
every instruction set and with none; bad options and files give one line and exit code 2; nothing
half-written stays."""
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile

import npz
from fleet import BUILD, ROOT, Failure, environment, main, run

ACCEL = os.path.join(BUILD, "accel", "starling-accel")
GOLDEN = os.path.join(ROOT, "tests", "golden", "accel")
ROUNDINGS = ["truncate", "nearest", "ctr", "lfsr", "given"]
ENCODERS = ["naf", "window", "binary"]
LISTED = {c["file"]: c["kind"] for c in json.load(open(os.path.join(GOLDEN, "manifest.json")))["cases"]}


class Shell:
    """Commands in a temporary folder."""

    def __init__(self, env=None):
        self.dir, self.env = tempfile.mkdtemp(prefix="sl-accel-"), env

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def put(self, name, array):
        npz.save(self.path(name), array)
        return self.path(name)

    def quantize(self, unit, source, options):
        out = self.path("out.npz")
        run([ACCEL, "quantize", "--unit", unit, self.put("in.npy", source), "--out", out] +
            [str(o) for o in options], env=self.env)
        return npz.load(out)

    def matmul(self, unit, a, w, options, bias=None):
        out = self.path("c.npy")
        args = [ACCEL, "matmul", "--unit", unit, self.put("a.npy", a), self.put("w.npy", w), "--out", out]
        if bias is not None:
            args += ["--bias", self.put("bias.npy", bias)]
        said, _ = run(args + [str(o) for o in options], env=self.env)
        return npz.load(out), said


def hexes(array):
    """Floats as text that reads back to the same bits."""
    return [float(v).hex() for v in npz.values(array)]


def part(array, i, n):
    """Bytes of set i of n sets."""
    size = len(array[2]) // n
    return array[2][i * size:(i + 1) * size]


def same(case, field, got, want):
    """got: an array; want: its dtype and bytes."""
    descr, data = want
    if got[0] != descr or got[2] != data:
        raise Failure(f"{case}: {field} differs from the vector")


def transposed(array):
    descr, (rows, cols), data = array
    size = len(data) // max(rows * cols, 1)
    cells = [data[i * size:(i + 1) * size] for i in range(rows * cols)]
    return descr, (cols, rows), b"".join(cells[r * cols + c] for c in range(cols) for r in range(rows))


# --- one function a kind; each returns how many commands it ran

def fast_quantise(sh, case, z):
    n = len(npz.values(z["p_m"]))
    rows = zip(*(npz.values(z[p]) for p in ("p_m", "p_e", "p_round", "p_key", "p_lfsr_start")))
    for i, (m, e, rounding, key, start) in enumerate(rows):
        options = ["--m", m, "--e", e, "--g", npz.values(z["p_g"])[0], "--axis", npz.values(z["p_axis"])[0],
                   "--round", ROUNDINGS[rounding], "--key", key, "--lfsr-start", start]
        if rounding == 4:
            options += ["--noise", sh.put("noise.npy", ("|u1", z["in_x"][1], part(z["out_noise"], i, n)))]
        got = sh.quantize("fast", z["in_x"], options)
        for f in ("mantissa", "exponent", "value", "code", "noise", "exponent_t", "n_inf"):
            same(case, f, got[f], (z["out_" + f][0], part(z["out_" + f], i, n)))
    return n


def fast_gemm(sh, case, z):
    names = ("p_e", "p_ma", "p_round_a", "p_key_a", "p_mw", "p_round_w", "p_key_w")
    n = len(npz.values(z["p_ma"]))
    for i, (e, ma, ra, ka, mw, rw, kw) in enumerate(zip(*(npz.values(z[p]) for p in names))):
        options = ["--g", npz.values(z["p_g"])[0], "--e", e, "--ma", ma, "--mw", mw, "--cost", "--round-a",
                   ROUNDINGS[ra], "--key-a", ka, "--round-w", ROUNDINGS[rw], "--key-w", kw]
        if npz.values(z["p_exact"])[0]:
            options.append("--exact")
        c, said = sh.matmul("fast", z["in_a"], z["in_w"], options, z.get("in_bias"))
        same(case, "c", c, (z["out_c"][0], part(z["out_c"], i, n)))
        if json.loads(said)["passes"] != npz.values(z["out_passes"])[i]:
            raise Failure(f"{case}: passes {said}")
    return n


def fast_layer(sh, case, z):
    n = len(npz.values(z["p_ma"]))
    common = ["--g", npz.values(z["p_g"])[0], "--e", npz.values(z["p_e"])[0]]
    key_da, key_dw = npz.values(z["out_key_da"])[0], npz.values(z["out_key_dw"])[0]
    for i, (ma, mw, mg) in enumerate(zip(*(npz.values(z[p]) for p in ("p_ma", "p_mw", "p_mg")))):
        o, _ = sh.matmul("fast", z["in_a"], z["in_w"], common + ["--ma", ma, "--mw", mw], z["in_bias"])
        same(case, "o", o, (z["out_o"][0], part(z["out_o"], i, n)))
        da, _ = sh.matmul("fast", z["in_do"], transposed(z["in_w"]),
                          common + ["--ma", mg, "--mw", mw, "--round-a", "ctr", "--key-a", key_da])
        same(case, "da", da, (z["out_da"][0], part(z["out_da"], i, n)))
        dw, _ = sh.matmul("fast", transposed(z["in_a"]), z["in_do"],
                          common + ["--ma", ma, "--mw", mg, "--round-w", "ctr", "--key-w", key_dw])
        same(case, "dw", dw, (z["out_dw"][0], part(z["out_dw"], i, n)))
    return 3 * n


def tr_encode(sh, case, z):
    for i, enc in enumerate(ENCODERS):
        got = sh.quantize("tr", z["in_q"], ["--enc", enc])
        for f in ("plus", "minus"):
            same(case, f, got[f], (z["out_" + f][0], part(z["out_" + f], i, 3)))
    return 3


def tr_quantise(sh, case, z):
    bits = npz.values(z["p_bits"])
    for i, b in enumerate(bits):
        given = ["--sf", hexes(z["in_sf"])[i]] if "in_sf" in z else []
        got = sh.quantize("tr", z["in_x"], ["--bits", b] + given)
        for f in ("q", "sf"):
            same(case, f, got[f], (z["out_" + f][0], part(z["out_" + f], i, len(bits))))
    return len(bits)


def tr_reveal(sh, case, z):
    k, enc = npz.values(z["p_k"]), npz.values(z["p_enc"])
    for i in range(len(k)):
        got = sh.quantize("tr", z["in_q"], ["--axis", npz.values(z["p_axis"])[0], "--g", npz.values(z["p_g"])[0],
                                            "--k", k[i], "--enc", enc[i]])
        for f in ("plus", "minus", "value", "terms"):
            same(case, f, got[f], (z["out_" + f][0], part(z["out_" + f], i, len(k))))
    return len(k)


def tr_gemm(sh, case, z):
    options = ["--sf-x", hexes(z["in_sf_x"])[0], "--cost"]
    for p in ("bits_x", "bits_w", "g", "k", "s", "enc"):
        options += ["--" + p, npz.values(z["p_" + p])[0]]
    c, said = sh.matmul("tr", z["in_x"], z["in_w"], options, z.get("in_bias"))
    same(case, "c", c, (z["out_c"][0], z["out_c"][2]))
    for f in ("pairs", "bound"):
        if json.loads(said)[f] != npz.values(z["out_" + f])[0]:
            raise Failure(f"{case}: {f}: {said}")
    return 1


def rtn_act(sh, case, z):
    gamma, beta = hexes(z["p_gamma"]), hexes(z["p_beta"])
    for i in range(len(gamma)):
        got = sh.quantize("rtn", z["in_x"], ["--role", "activation", "--gamma", gamma[i], "--beta", beta[i]])
        same(case, "t", got["t"], (z["out_t"][0], z["out_t"][2]))
        for f in ("t_before", "value"):
            same(case, f, got[f], (z["out_" + f][0], part(z["out_" + f], i, len(gamma))))
    return len(gamma)


def rtn_weight(sh, case, z):
    for scope, suffix in (("layer", ""), ("channel", "_ch")):
        got = sh.quantize("rtn", z["in_w"], ["--role", "weight", "--scope", scope])
        for f in ("t", "d", "gamma"):
            same(case, f, got[f], (z["out_" + f + suffix][0], z["out_" + f + suffix][2]))
    return 2


def rtn_dot(sh, case, z):
    for source, axis, prefix, total in (("in_ta", 1, "out_a_", "out_sa"), ("in_tw", 0, "out_w_", "out_sw")):
        got = sh.quantize("rtn", z[source], ["--axis", axis])
        for f in ("flag", "sign"):
            same(case, prefix + f, got[f], (z[prefix + f][0], z[prefix + f][2]))
        same(case, total, got["sum"], (z[total][0], z[total][2]))
    return 2


def rtn_gemm(sh, case, z):
    options = ["--ga", hexes(z["p_ga"])[0], "--ba", hexes(z["p_ba"])[0]]
    for p in ("gw", "bw"):
        many = len(npz.values(z["p_" + p])) > 1
        options += ["--" + p, sh.put(p + ".npy", z["p_" + p]) if many else hexes(z["p_" + p])[0]]
    c, _ = sh.matmul("rtn", z["in_x"], z["in_w"], options, z.get("in_bias"))
    same(case, "r", c, (z["out_r"][0], z["out_r"][2]))
    return 1


KINDS = {f.__name__: f for f in (fast_quantise, fast_gemm, fast_layer, tr_encode, tr_quantise, tr_reveal,
                                 tr_gemm, rtn_act, rtn_weight, rtn_dot, rtn_gemm)}


def every_case(mask, kinds):
    commands = 0
    with Shell({"STARLING_CPU_MASK": mask}) as sh:
        for file, kind in sorted(LISTED.items()):
            if kind in kinds:
                commands += KINDS[kind](sh, file[:-4], npz.load(os.path.join(GOLDEN, file)))
    if commands < 20:
        raise Failure(f"only {commands} commands ran")


def golden_cases_give_the_same_bits_from_the_shell():
    every_case("", KINDS)


def golden_products_give_the_same_bits_with_every_kernel_masked():
    for mask in ("all", "avx512", "vpopcntdq,vnni"):
        every_case(mask, ("tr_gemm", "tr_quantise", "rtn_act", "rtn_dot", "rtn_gemm", "fast_gemm"))


# --- what is refused

X = ("<f4", (4, 8), struct.pack("<32f", *(i / 7 - 2 for i in range(32))))
W = ("<f4", (8, 3), struct.pack("<24f", *(i / 5 - 2 for i in range(24))))
INF = ("<f4", (4, 8), struct.pack("<32f", *([float("inf")] * 32)))
NAN = ("<f4", (4, 8), struct.pack("<32f", *([float("nan")] * 32)))
F8 = ("<f8", (4, 8), struct.pack("<32d", *range(32)))

BAD_QUANTIZE = [
    (X, "fast", "--m 0", r"--m 0: .*1 to 8"),
    (X, "fast", "--m 9", r"--m 9: .*1 to 8"),
    (X, "fast", "--m four", r"--m four"),
    (X, "fast", "--g 0", r"--g 0: .*from 1"),
    (X, "fast", "--e 5", r"e 5|--e 5"),
    (X, "fast", "--axis 2", r"--axis 2: .*-2 to 1"),
    (X, "fast", "--round up", r"--round up: .*truncate"),
    (X, "fast", "--round given", r"--noise"),
    (X, "fast", "--noise x.npy", r"--noise without"),
    (X, "fast", "--k 4", r"does not take --k"),
    (X, "fast", "--m 2 --m 4", r"--m: given twice"),
    (X, "fast", "--m", r"--m wants a value"),
    (NAN, "fast", "", r"NaN"),
    (F8, "fast", "", r"<f8.*<f4"),
    (X, "tr", "--bits 1", r"--bits 1: .*2 to 15"),
    (X, "tr", "--bits 16", r"--bits 16"),
    (X, "tr", "--sf 0", r"--sf: .*scale 0"),
    (X, "tr", "--sf nan", r"--sf nan"),
    (X, "tr", "--sf 1e-40", r"--sf: .*scale 9.99995e-41"),
    (X, "tr", "--k 0", r"--k 0: .*from 1"),
    (X, "tr", "--g 257", r"--g 257: .*1 to 256"),
    (X, "tr", "--k 4 --s 2", r"not both"),
    (X, "tr", "--enc hese", r"--enc hese: .*naf"),
    (INF, "tr", "", r"Inf or NaN"),
    (("<i4", (1,), struct.pack("<i", 16385)), "tr", "", r"16385.*2\^14"),
    (("<i4", (1,), struct.pack("<i", 3)), "tr", "--bits 8", r"for floats"),
    (X, "rtn", "--gamma 0", r"gamma 0"),
    (NAN, "rtn", "", r"NaN"),
    (INF, "rtn", "--role weight", r"Inf or NaN"),
    (X, "rtn", "--role bias", r"--role bias"),
    (("|i1", (2,), b"\x01\x02"), "rtn", "", r"value 2 at 1"),
    (("<f4", (), b"\0\0\0\0"), "rtn", "", r"single value"),
    (X, "fp32", "", r"fp32"),
    (X, "bf16", "", r"--unit bf16: .*fast"),
]
BAD_MATMUL = [
    (X, X, "fp32", "", r"\[4, 8\].*\[4, 8\].*do not multiply"),
    (F8, W, "fp32", "", r"<f8.*<f4"),
    (X, ("<f4", (24,), W[2]), "fp32", "", r"1 dimensions"),
    (X, W, "fast", "--ma 0", r"--ma 0"),
    (X, W, "fast", "--mw 9", r"--mw 9"),
    (X, W, "fast", "--m 8 --g 1024", r"g|2\^24"),
    (X, W, "fast", "--e 8 --exact", r"exact"),
    (X, W, "fast", "--round-a given", r"given noise"),
    (X, W, "tr", "", r"--sf-x is missing"),
    (X, W, "tr", "--sf-x 0", r"scale 0"),
    (X, W, "tr", "--sf-x 1 --s 0", r"--s 0"),
    (INF, W, "tr", "--sf-x 1", r"Inf or NaN"),
    (X, W, "rtn", "--gw 1", r"--ga is missing"),
    (X, W, "rtn", "--ga 1", r"--gw is missing"),
    (X, W, "rtn", "--ga 1 --gw x", r"--gw x"),
    (X, W, "fp32", "--g 16", r"does not take --g"),
]


def refused(sh, args, says):
    """Exit code 2, one line that matches, and nothing new in the folder."""
    before = sorted(os.listdir(sh.dir))
    out, err = run([ACCEL] + args, expect=2)
    lines = [l for l in err.splitlines() if l.strip()]
    if len(lines) != 1 or out or not re.search(says, lines[0]) or not lines[0].startswith("starling-accel: "):
        raise Failure(f"{args}: said {out!r} {err!r}, expected one line /{says}/")
    if sorted(os.listdir(sh.dir)) != before:
        raise Failure(f"{args}: left {set(os.listdir(sh.dir)) - set(before)}")


def bad_options_and_arrays_give_one_line_and_code_2():
    with Shell() as sh:
        for array, unit, options, says in BAD_QUANTIZE:
            refused(sh, ["quantize", "--unit", unit, sh.put("in.npy", array), "--out", sh.path("o.npz")] +
                    options.split(), says)
        for a, w, unit, options, says in BAD_MATMUL:
            refused(sh, ["matmul", "--unit", unit, sh.put("in.npy", a), sh.put("w.npy", w), "--out",
                         sh.path("o.npy")] + options.split(), says)


def missing_words_and_files_give_one_line_and_code_2():
    with Shell() as sh:
        x, w = sh.put("in.npy", X), sh.put("w.npy", W)
        for args, says in [
            ([], r"no verb"), (["multiply"], r"unknown verb"), (["check"], r"wants one DIR"),
            (["check", sh.dir], r"no manifest"), (["info", x], r"no file"), (["info", "--m", "4"], r"--m"),
            (["quantize", x, "--out", sh.path("o")], r"--unit is missing"),
            (["quantize", "--unit", "fast", x], r"--out"), (["quantize", "--unit", "fast", "--out", "o"], r"IN.npy"),
            (["matmul", "--unit", "fp32", x, "--out", "o"], r"A.npy and W.npy"),
            (["matmul", "--unit", "fp32", x, w, w, "--out", "o"], r"superfluous"),
            (["quantize", "--unit", "fast", sh.path("none.npy"), "--out", sh.path("o")], r"none.npy"),
            (["quantize", "--unit", "fast", x, "--out", sh.path("no/such/o.npz")], r"no/such"),
            (["cost", "--unit", "tr"], r"--model"), (["cost", "--unit", "tr", "--model", "gpt"], r"gpt"),
            (["cost", "--unit", "tr", "--model", "cnn", "--input", "28"], r"cnn.*conv2d"),
            (["cost", "--unit", "tr", "--model", "cnn", "--input", "0x3"], r"--input 0x3"),
            (["cost", "--unit", "rtn", "--model", "tiny"], r"ternary"),
            (["quantize", "--unit", "fast", "--frobnicate", x], r"--frobnicate"),
        ]:
            refused(sh, args, says)
        out, err = run([ACCEL, "info"], expect=2, env={"STARLING_CPU_MASK": "sse9"})
        if "sse9" not in err:
            raise Failure(err)


def a_cut_or_damaged_file_is_refused_at_every_length():
    with Shell() as sh:
        whole = npz.encode(*X)
        for n in list(range(0, 140, 7)) + [len(whole) - 1]:
            with open(sh.path("in.npy"), "wb") as f:
                f.write(whole[:n])
            refused(sh, ["quantize", "--unit", "fast", sh.path("in.npy"), "--out", sh.path("o.npz")], r"in\.npy")
        with open(sh.path("in.npy"), "wb") as f:
            f.write(whole + b"more")
        refused(sh, ["quantize", "--unit", "fast", sh.path("in.npy"), "--out", sh.path("o.npz")], r"in\.npy")


def a_result_replaces_the_old_one_as_a_whole():
    with Shell() as sh:
        first = sh.quantize("fast", X, ["--m", 2])
        run([ACCEL, "quantize", "--unit", "fast", sh.put("in.npy", NAN), "--out", sh.path("out.npz")], expect=2)
        if npz.load(sh.path("out.npz")) != first:
            raise Failure("a failed command changed the old result")
        if sorted(os.listdir(sh.dir)) != ["in.npy", "out.npz"]:
            raise Failure(f"left behind: {os.listdir(sh.dir)}")
        sh.quantize("fast", X, ["--m", 4])
        if npz.load(sh.path("out.npz")) == first:
            raise Failure("the new result did not replace the old one")


def an_altered_bit_fails_the_check():
    with Shell() as sh:
        manifest = json.load(open(os.path.join(GOLDEN, "manifest.json")))
        wanted = [c for c in manifest["cases"] if c["file"] in ("tr_gemm_naf.npz", "rtn_conv3.npz", "rtn_dot_k17.npz")]
        with open(sh.path("manifest.json"), "w") as f:
            json.dump({"cases": wanted}, f)
        for case in wanted:
            shutil.copy(os.path.join(GOLDEN, case["file"]), sh.dir)
        out, _ = run([ACCEL, "check", sh.dir])
        if not out.endswith("3 passed, 0 failed\n"):
            raise Failure(out)
        for case in wanted:
            arrays = npz.load(os.path.join(GOLDEN, case["file"]))
            for field in sorted(arrays):
                descr, shape, data = arrays[field]
                if field.startswith("out_") and data:
                    flipped = bytes([data[0] ^ 1]) + data[1:]
                    npz.save_npz(sh.path(case["file"]), {**arrays, field: (descr, shape, flipped)})
                    out, _ = run([ACCEL, "check", sh.dir, "--only", case["file"][:-4]], expect=1)
                    if f"not ok {case['file'][:-4]}: {field}, 0, " not in out or "0 passed, 1 failed, 2 skipped" not in out:
                        raise Failure(f"{field}: {out}")
            npz.save_npz(sh.path(case["file"]), arrays)


def a_place_that_cannot_be_written_is_one_line():
    with Shell() as sh:
        p = subprocess.run([ACCEL, "quantize", "--unit", "fast", sh.put("in.npy", X), "--out", "/dev/full/o.npz"],
                           capture_output=True, text=True, env=environment())
        if p.returncode not in (1, 2) or len(p.stderr.splitlines()) != 1:
            raise Failure(f"{p.returncode}: {p.stderr}")


def info_and_cost_say_what_runs():
    out, _ = run([ACCEL, "info"])
    for line in ("instruction sets: ", "masked: none", "kernels rtn: ", "units: fp32 ", "blas: "):
        if line not in out:
            raise Failure(out)
    masked, _ = run([ACCEL, "info"], env={"STARLING_CPU_MASK": "all"})
    if "kernels tr: c\n" not in masked:
        raise Failure(masked)
    for unit in ("fp32", "fast", "tr", "rtn"):
        out, _ = run([ACCEL, "cost", "--unit", unit, "--model", "mlp", "--batch", "8"])
        lines = [json.loads(l) for l in out.splitlines()]
        macs = sum(l["macs"] for l in lines if l["pass"] == "forward" and l["layer"] != "all")
        if macs != 8 * (784 * 200 + 200 * 200 + 200 * 10):
            raise Failure(f"{unit}: {macs} multiply-adds\n{out}")
        total = [l for l in lines if l["layer"] == "all" and l["pass"] == "forward"]
        if len(total) != 1 or total[0]["macs"] != macs:
            raise Failure(out)


main([golden_cases_give_the_same_bits_from_the_shell,
      golden_products_give_the_same_bits_with_every_kernel_masked,
      bad_options_and_arrays_give_one_line_and_code_2,
      missing_words_and_files_give_one_line_and_code_2,
      a_cut_or_damaged_file_is_refused_at_every_length,
      a_result_replaces_the_old_one_as_a_whole,
      an_altered_bit_fails_the_check,
      a_place_that_cannot_be_written_is_one_line,
      info_and_cost_say_what_runs])
