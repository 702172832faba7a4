"""Tables in `.npy` files (NumPy Enhancement Proposal 1).

Read here since `numpy.load` reads a header as Python source: a damaged one raises nearly anything, one that
declares more than the file holds allocates it, and a type of no bytes ends the process.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from cvfp.records.errors import InputError
from cvfp.records.files import reason

LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
"""Of the header's length, by format version."""
LONGEST = 10_000
"""Bytes of a header."""
HEADER = re.compile(
    r"\{\s*'descr':\s*'([^']*)',\s*'fortran_order':\s*(True|False),"
    r"\s*'shape':\s*\(([\d, ]{0,200})\),?\s*\}\s*",
    re.ASCII,
)


def read_npy(path: Path) -> np.ndarray:
    """The array of floats in a file.

    Raises:
        InputError: the file cannot be read, is no .npy file, holds no floats, or fewer than it declares.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    width = LENGTH_BYTES.get(data[6:8])
    if width is None or data[:6] != b"\x93NUMPY":
        raise InputError(f"{path}: not a readable .npy array: it does not begin like one")
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    header = HEADER.fullmatch(data[8 + width : start].decode("latin-1")) if start <= LONGEST else None
    if header is None:
        raise InputError(f"{path}: not a readable .npy array: its header is not that of one")
    return _array(path, data, start, *header.groups())


def _array(path: Path, data: bytes, start: int, descr: str, fortran: str, shape: str) -> np.ndarray:
    if not re.fullmatch("[<>=]f[248]", descr):
        raise InputError(f"{path}: holds {descr}, floats are needed: <f2, <f4 or <f8")
    sizes, dtype = [int(size) for size in re.findall(r"\d+", shape)], np.dtype(descr)
    count = math.prod(sizes)
    if not count or len(sizes) > 2 or count * dtype.itemsize != len(data) - start:
        there = (len(data) - start) // dtype.itemsize
        raise InputError(f"{path}: not a readable table: shape ({shape}) is declared, {there} numbers follow")
    array = np.frombuffer(data, dtype, count, start)
    return array.reshape(sizes, order="F" if fortran == "True" else "C")
