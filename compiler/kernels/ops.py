"""The kernel's operations: the type each gives and what it computes on one trajectory's numbers.

The elementwise ops of the op table (`Op.scalar`) appear under their own names, with real operands. Here stand
their NumPy meanings and what only kernels have: integers, bit patterns, fused multiply–add.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from ndl.compiler.kernels.ir import KernelError

REAL = {"f64": np.float64, "f32": np.float32}
BITS = {"f64": np.int64, "f32": np.int32}


@dataclass(frozen=True)
class KernelOp:
    """`operands` are the types wanted (`same`: any, but all alike), `result` a type or `same`; `compute`
    works on NumPy scalars. Ops of integers wrap around."""

    name: str
    operands: tuple[str, ...]
    result: str
    compute: Callable[..., Any]
    primitive: bool = True
    """Whether printers have an instruction for it; others are expanded into primitives (`math`)."""

    def type(self, given: Sequence[str]) -> str:
        """The result's type. Raises `KernelError` for operands that do not fit."""
        first = next((g for g, w in zip(given, self.operands) if w == "same"), "")
        fits = len(given) == len(self.operands) and all(
            g == (first if w == "same" else w) for g, w in zip(given, self.operands)
        )
        if not fits:
            raise KernelError(f"`{self.name}` takes ({', '.join(self.operands)}), not ({', '.join(given)})")
        return first if self.result == "same" else self.result


TABLE: dict[str, KernelOp] = {}


def _add(name: str, operands: str, result: str, compute: Callable[..., Any], primitive: bool = True) -> None:
    TABLE[name] = KernelOp(name, tuple(operands.split()), result, compute, primitive)


def _fma(a: Any, b: Any, c: Any) -> Any:
    """a*b + c rounded once: exact in extended precision for single, by two-term arithmetic for double."""
    if isinstance(a, np.float32):
        return np.float32(np.float64(a) * np.float64(b) + np.float64(c))
    return _fma64(a, b, c)


def _fma64(a: Any, b: Any, c: Any) -> Any:
    from fractions import Fraction

    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)):
        return a * b + c
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if exact == 0:
        return a * b + c
    try:
        return np.float64(exact)
    except OverflowError:
        return np.float64(math.inf if exact > 0 else -math.inf)


def _special(name: str) -> Callable[..., Any]:
    def compute(x: Any) -> Any:
        import torch

        value = getattr(torch.special, name)(torch.tensor(float(x), dtype=torch.float64))
        return type(x)(float(value))

    return compute


def _shift(left: bool) -> Callable[..., Any]:
    def compute(a: Any, k: Any) -> Any:
        width = a.dtype.itemsize * 8
        unsigned = int(a) & ((1 << width) - 1)
        return wrap(unsigned << int(k) if left else unsigned >> int(k), a.dtype)

    return compute


def wrap(value: int, dtype: Any) -> Any:
    """An integer modulo 2^width, as a signed number of that dtype."""
    width = np.dtype(dtype).itemsize * 8
    value &= (1 << width) - 1
    return np.dtype(dtype).type(value - (1 << width) if value >> (width - 1) else value)


def _mulhi(a: Any, b: Any) -> Any:
    return wrap(((int(a) & 0xFFFFFFFF) * (int(b) & 0xFFFFFFFF)) >> 32, np.int32)


def _normal(which: int, *words: Any) -> Any:
    """One of the two normals of a counter (four words) under a key (two)."""
    return _normals(*map(int, words))[which]


@lru_cache(maxsize=1 << 16)
def _normals(*words: int) -> tuple[Any, Any]:
    """Both; a search of a path asks for the same ones again and again."""
    import torch
    from ndl.runtime.philox import MASK, normal_pair, philox

    c0, c1, c2, c3, k0, k1 = (torch.tensor(w & MASK) for w in words)
    a, b = normal_pair(philox((c0, c1, c2, c3), (k0, k1)))
    return np.float64(a), np.float64(b)


def _integer(compute: Callable[[int, int], int]) -> Callable[..., Any]:
    return lambda a, b: wrap(compute(int(a), int(b)), a.dtype)


def _arith(real: Callable[..., Any], whole: Callable[[int, int], int]) -> Callable[..., Any]:
    integer = _integer(whole)
    return lambda a, b: integer(a, b) if isinstance(a, np.integer) else real(a, b)


def _as(kind: dict[str, Any], of: Any) -> Any:
    return kind["f32"] if of.dtype.itemsize == 4 else kind["f64"]


def _gelu(x: Any) -> Any:
    return type(x)(0.5 * float(x) * (1 + math.erf(float(x) / math.sqrt(2.0))))


for _name, _c in {
    "add": _arith(np.add, lambda a, b: a + b),
    "sub": _arith(np.subtract, lambda a, b: a - b),
    "mul": _arith(np.multiply, lambda a, b: a * b),
}.items():
    _add(_name, "same same", "same", _c)
_add("div", "real real", "real", np.divide)
_add("fma", "real real real", "real", _fma)
_add("maximum", "real real", "real", np.maximum)
_add("minimum", "real real", "real", np.minimum)
_add("neg", "real", "real", np.negative)
_add("abs", "real", "real", np.abs)
_add("sqrt", "real", "real", np.sqrt)
_add("floor", "real", "real", np.floor)
_add("ceil", "real", "real", np.ceil)
_add("round", "real", "real", np.rint)
for _name, _r in {
    "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
}.items():  # fmt: skip
    _add(_name, "same same", "bool", _r)
_add("and", "bool bool", "bool", np.logical_and)
_add("or", "bool bool", "bool", np.logical_or)
_add("not", "bool", "bool", np.logical_not)
_add("isfinite", "real", "bool", np.isfinite)
_add("select", "bool same same", "same", lambda c, a, b: a if c else b)
_add(
    "to_i32",
    "real",
    "i32",
    lambda a: np.int32(a) if np.isfinite(a) and abs(a) < 2**31 else np.int32(-(2**31)),
)
_add("to_bool", "i32", "bool", lambda a: np.bool_(a != 0))
_add("from_bool", "bool", "i32", lambda a: np.int32(a))
_add("bits_of", "real", "bits", lambda a: a.view(_as(BITS, a)))
_add("real_of", "bits", "real", lambda a: a.view(_as(REAL, a)))
_add("narrow", "bits", "i32", lambda a: wrap(int(a), np.int32))
_add("bit_and", "same same", "same", _integer(lambda a, b: a & b))
_add("bit_or", "same same", "same", _integer(lambda a, b: a | b))
_add("bit_xor", "same same", "same", _integer(lambda a, b: a ^ b))
_add("shl", "same same", "same", _shift(True))
_add("shr", "same same", "same", _shift(False))
_add("mulhi", "i32 i32", "i32", _mulhi)


def _coarse_power(x: Any, exponent: Any) -> Any:
    """By `ndl.compiler.kernels.math.coarse`, which has the numbers."""
    from ndl.compiler.kernels.math import coarse

    kind = type(x)
    if not 0 <= x < np.inf:
        return kind(np.nan)
    log = kind(coarse.log2_of(float(x))) if x > 0 else kind(-np.inf)
    limit = np.finfo(kind)
    y = np.clip(exponent * log, limit.minexp, limit.maxexp - 1)
    n = np.rint(y)
    a, b, c, d = coarse.EXP2
    f = float(y - n)
    return kind(np.ldexp(a + f * (b + f * (c + f * d)), int(n)))


_UNARY: dict[str, Callable[..., Any]] = {
    "exp": np.exp, "log": np.log, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "log1p": np.log1p, "expm1": np.expm1, "sign": np.sign,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, type(x)(0)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, type(x)(0)),
    "elu": lambda x: x if x > 0 else np.expm1(x),
    "gelu": _gelu,
    "erf": lambda x: type(x)(math.erf(float(x))),
    "lgamma": _special("gammaln"),
    "digamma": _special("digamma"),
}  # fmt: skip
for _name, _f in _UNARY.items():
    _add(_name, "real", "real", _f, primitive=False)
_add("pow", "real real", "real", np.power, primitive=False)
_add("coarse_power", "real real", "real", _coarse_power, primitive=False)
_add("mod", "real real", "real", np.mod, primitive=False)
_add("floordiv", "real real", "real", np.floor_divide, primitive=False)
_add("atan2", "real real", "real", np.arctan2, primitive=False)
for _k, _name in enumerate(("normal_cos", "normal_sin")):
    _add(_name, "i32 i32 i32 i32 i32 i32", "real", partial(_normal, _k), primitive=False)
_add("to_real", "i32", "real", lambda a: a)  # the interpreter rounds to the kernel's precision
_add("widen", "i32", "bits", lambda a: a)
