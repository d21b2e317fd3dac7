# SPDX-License-Identifier: Apache-2.0
"""NumPy's .npy and .npz with the standard library: arrays are (descr, shape, bytes)."""
import ast
import io
import struct
import zipfile

CODES = {"<f4": "f", "<f8": "d", "|i1": "b", "<i2": "h", "<i4": "i", "<i8": "q",
         "|u1": "B", "<u2": "H", "<u4": "I", "<u8": "Q"}


def parse(data):
    if data[:6] != b"\x93NUMPY":
        raise ValueError("not a .npy")
    n = struct.unpack("<H", data[8:10])[0]
    about = ast.literal_eval(data[10:10 + n].decode())
    return about["descr"], tuple(about["shape"]), data[10 + n:]


def encode(descr, shape, data):
    text = str({"descr": descr, "fortran_order": False, "shape": tuple(shape)})
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def load(path):
    """A .npy's array, or a dict of a .npz's."""
    with open(path, "rb") as f:
        data = f.read()
    if data[:2] != b"PK":
        return parse(data)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        return {n[:-4]: parse(z.read(n)) for n in z.namelist()}


def save(path, array):
    with open(path, "wb") as f:
        f.write(encode(*array))


def save_npz(path, arrays):
    with zipfile.ZipFile(path, "w") as z:
        for name, array in arrays.items():
            z.writestr(name + ".npy", encode(*array))


def values(array):
    """Flat tuple of numbers."""
    descr, _, data = array
    code = CODES[descr]
    return struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data)
