"""Straight-line primitive code on NumPy arrays: the interpreter's meaning, many trajectories at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ndl.compiler.kernels.code import Code, number_of
from ndl.compiler.kernels.interpret import scalar
from ndl.compiler.kernels.ir import Block, Instr, Value
from ndl.compiler.kernels.ops import BITS, REAL, TABLE

Function = Callable[..., Any]
UNSIGNED = {4: np.uint32, 8: np.uint64}


def straight(precision: str, function: Function, types: Sequence[str]) -> Block:
    """The block that `function(code, …)` writes; it returns a value or several."""
    code = Code(precision)
    with code.block(types) as block:
        found = function(code, *block.params)
        block.yields = (found,) if isinstance(found, Value) else tuple(found)
    return block


def evaluate(block: Block, precision: str, *arguments: Any) -> list[Any]:
    """What the block yields for arrays of arguments."""
    env: dict[Value, Any] = dict(zip(block.params, arguments, strict=True))
    with np.errstate(all="ignore"):
        for instr in block.body:
            env[instr.results[0]] = _one(instr, precision, [env[a] for a in instr.args])
    return [env[v] for v in block.yields]


def _one(instr: Instr, precision: str, args: list[Any]) -> Any:
    type = instr.results[0].type
    if instr.op == "const":
        return scalar(number_of(instr), type, precision)
    found = VECTOR.get(instr.op, TABLE[instr.op].compute)(*args)
    dtype = {"real": REAL[precision], "bits": BITS[precision], "i32": np.int32, "bool": np.bool_}[type]
    return np.asarray(found).astype(dtype)


def fma(a: Any, b: Any, c: Any) -> Any:
    """a*b + c rounded once (Boldo and Melquiond 2008: the low parts summed with rounding to odd)."""
    if np.result_type(a) == np.float32:
        return np.float32(np.float64(a) * b + c)
    u, u_low = _product(np.asarray(a), np.asarray(b))
    t, t_low = _sum(c, u_low)
    v, v_low = _sum(u, t)
    s, lost = _sum(t_low, v_low)
    even = (np.asarray(s).view(np.int64) & 1) == 0
    s = np.where((lost != 0) & even, np.nextafter(s, np.copysign(np.inf, lost)), s)
    found = v + s
    plain = np.asarray(a * b + c)
    usual = np.isfinite(found) & (np.abs(u) > 1e-280) & (np.abs(a) < 1e290) & (np.abs(b) < 1e290)
    return np.where(usual, found, plain)


def _sum(a: Any, b: Any) -> Any:
    s = a + b
    back = s - a
    return s, (a - (s - back)) + (b - back)


def _product(a: Any, b: Any) -> Any:
    p = a * b
    a_high, b_high = _high(a), _high(b)
    a_low, b_low = a - a_high, b - b_high
    return p, a_low * b_low - (((p - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _high(a: Any) -> Any:
    big = a * 134217729.0
    return big - (big - a)


def _shift(left: bool) -> Function:
    def compute(a: Any, k: Any) -> Any:
        a = np.asarray(a)
        unsigned = UNSIGNED[a.dtype.itemsize]
        bits, by = a.view(unsigned), np.asarray(k).astype(unsigned)
        return (bits << by if left else bits >> by).view(a.dtype)

    return compute


def _mulhi(a: Any, b: Any) -> Any:
    wide = np.asarray(a).view(np.uint32).astype(np.uint64) * np.asarray(b).view(np.uint32).astype(np.uint64)
    return (wide >> np.uint64(32)).astype(np.uint32).view(np.int32)


def _view(kinds: dict[str, Any]) -> Function:
    return lambda a: np.asarray(a).view(kinds["f32" if np.asarray(a).dtype.itemsize == 4 else "f64"])


VECTOR: dict[str, Function] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "fma": fma, "select": np.where,
    "bit_and": np.bitwise_and, "bit_or": np.bitwise_or, "bit_xor": np.bitwise_xor,
    "shl": _shift(True), "shr": _shift(False), "mulhi": _mulhi,
    "bits_of": _view(BITS), "real_of": _view(REAL),
    "narrow": lambda a: np.asarray(a).astype(np.int32), "from_bool": lambda a: np.asarray(a).astype(np.int32),
    "to_i32": lambda a: np.where(np.abs(a) < 2**31, a, -(2.0**31)).astype(np.int64).astype(np.int32),
}  # fmt: skip
