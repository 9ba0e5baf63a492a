"""Draws for each step or firing as scalar code: the numbers of `ndl.runtime.draws`, made where they are used.

A number is a function of (seed, stream, sample, step of the training, turn, place in the value): Philox of
the counter (sample, training step, turn, place) under the stream's key. The table `draw_keys` has two words
for each draw, then the number of the first sample and the training step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi, prod

import numpy as np
from ndl.compiler.ir.model import DrawSpec
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.math.random import normal_pair, philox, uniform53
from ndl.compiler.kernels.scalars import Values

MOVING = ("step", "firing")
"""Draws that a run makes anew."""

LISTED = 16
"""Values of a list beyond which a choice between them is no longer what pays."""


@dataclass(frozen=True)
class Numbers:
    """The random numbers behind a value: uniforms u, v in (0, 1) and a standard normal z."""

    u: Value
    v: Value
    z: Value


class Draws:
    """The moving draws of a model. Raises `Unsupported` for laws that kernels do not have."""

    def __init__(self, code: Code, specs: Sequence[DrawSpec]) -> None:
        self.code = code
        self.specs = {d.name: d for d in specs if d.per in MOVING}
        for d in self.specs.values():
            if d.law not in LAWS:
                raise Unsupported(f"`{d.name}` is drawn anew from `{d.law}`")
            if d.law in ("choice", "categorical") and np.size(d.arguments[0]) > LISTED:
                raise Unsupported(f"`{d.name}` is drawn anew from a list of more than {LISTED} values")
        if self.specs:
            code.buffer("draw_keys", "table", "in", "i32")

    def prepare(self) -> None:
        """In the entry block: the keys."""
        code, many = self.code, 2 * len(self.specs)
        if not many:
            return
        words = [code.load("draw_keys", i) for i in range(many)]
        self.keys = {name: (words[2 * i], words[2 * i + 1]) for i, name in enumerate(self.specs)}
        self.first, self.step = code.load("draw_keys", many), code.load("draw_keys", many + 1)

    def value(self, name: str, turn: Value) -> Values:
        """A draw in its turn, in its shape."""
        code, d = self.code, self.specs[name]
        shape = d.type.extents
        sample = code.op("add", code.member(), self.first)
        given = [np.asarray(a, dtype=np.float64) for a in d.arguments]
        listed = d.law in ("choice", "categorical")
        spread = given if listed else [np.broadcast_to(a, shape) for a in given]
        out = np.empty(prod(shape), dtype=object)
        for place in range(len(out)):
            counter = (sample, self.step, turn, code.const(place, "i32"))
            words = philox(code, counter, self.keys[name])
            u, v = uniform53(code, words[0], words[1]), uniform53(code, words[2], words[3])
            numbers = Numbers(u, v, normal_pair(code, words)[0])
            if listed:
                out[place] = CHOSEN[d.law](code, u, given[0])
            else:
                out[place] = LAWS[d.law](code, numbers, *(float(a.flat[place]) for a in spread))
        return out.reshape(shape)


# ---------------------------------------------------------------- laws: as in `ndl.runtime.laws`


def _affine(code: Code, x: Value, shift: float, scale: float) -> Value:
    return code.op("add", code.op("mul", x, scale), shift)


def _uniform(code: Code, n: Numbers, low: float = 0.0, high: float = 1.0) -> Value:
    return _affine(code, n.u, low, high - low)


def _normal(code: Code, n: Numbers, mean: float = 0.0, std: float = 1.0) -> Value:
    return _affine(code, n.z, mean, std)


def _lognormal(code: Code, n: Numbers, mean: float = 0.0, std: float = 1.0) -> Value:
    return code.op("exp", _affine(code, n.z, mean, std))


def _loguniform(code: Code, n: Numbers, low: float, high: float) -> Value:
    return code.op("exp", _affine(code, n.u, float(np.log(low)), float(np.log(high) - np.log(low))))


def _exponential(code: Code, n: Numbers, rate: float = 1.0) -> Value:
    return code.op("div", code.op("neg", code.op("log", n.u)), rate)


def _laplace(code: Code, n: Numbers, mean: float = 0.0, scale: float = 1.0) -> Value:
    side = code.op("sub", n.u, 0.5)
    size = code.op("log1p", code.op("mul", code.op("abs", side), -2.0))
    return code.op("sub", mean, code.op("mul", code.op("mul", code.op("sign", side), scale), size))


def _cauchy(code: Code, n: Numbers, place: float = 0.0, scale: float = 1.0) -> Value:
    return _affine(code, code.op("tan", code.op("mul", code.op("sub", n.u, 0.5), pi)), place, scale)


def _student(code: Code, n: Numbers, freedom: float, mean: float = 0.0, scale: float = 1.0) -> Value:
    spread = code.op("expm1", code.op("mul", code.op("log", n.u), -2 / freedom))
    radius = code.op("sqrt", code.op("mul", spread, freedom))
    return _affine(code, code.op("mul", radius, code.op("cos", code.op("mul", n.v, 2 * pi))), mean, scale)


def _bernoulli(code: Code, n: Numbers, p: float = 0.5) -> Value:
    return code.op("select", code.op("lt", n.u, p), 1.0, 0.0)


def _choice(code: Code, u: Value, values: Values) -> Value:
    """values[floor(u k)]."""
    scaled = code.op("mul", u, float(len(values)))
    found = code.const(values[0])
    for i, value in enumerate(values[1:], 1):
        found = code.op("select", code.op("ge", scaled, float(i)), float(value), found)
    return found


def _categorical(code: Code, u: Value, weights: Values) -> Value:
    """The number of shares, added up, that u is past."""
    found = code.const(0.0)
    for edge in np.cumsum(weights / weights.sum())[:-1]:
        found = code.op("add", found, code.op("select", code.op("gt", u, float(edge)), 1.0, 0.0))
    return found


CHOSEN: dict[str, Callable[[Code, Value, Values], Value]] = {"choice": _choice, "categorical": _categorical}

LAWS: dict[str, Callable[..., Value]] = {
    "uniform": _uniform,
    "normal": _normal,
    "lognormal": _lognormal,
    "loguniform": _loguniform,
    "exponential": _exponential,
    "laplace": _laplace,
    "cauchy": _cauchy,
    "student": _student,
    "bernoulli": _bernoulli,
    **CHOSEN,
}
