"""Activations of networks."""

from __future__ import annotations

import math

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.error import erf
from ndl.compiler.kernels.math.exponential import exp_negative, expm1
from ndl.compiler.kernels.math.format import at_least
from ndl.compiler.kernels.math.logarithm import log1p_inside


def _decay(code: Code, x: Value) -> Value:
    """exp(-|x|)."""
    return exp_negative(code, code.op("neg", code.op("abs", x)))


def relu(code: Code, x: Value) -> Value:
    return at_least(code, x, 0.0)


def sign(code: Code, x: Value) -> Value:
    """-1, 0 or 1; nan for nan."""
    below = code.op("select", code.op("lt", x, 0.0), -1.0, code.op("abs", x))
    return code.op("select", code.op("gt", x, 0.0), 1.0, below)


def sigmoid(code: Code, x: Value) -> Value:
    """1/(1 + e) for x >= 0 and e/(1 + e) below, e = exp(-|x|)."""
    e = _decay(code, x)
    above = code.op("select", code.op("ge", x, 0.0), 1.0, e)
    return code.op("div", above, code.op("add", e, 1.0))


def silu(code: Code, x: Value) -> Value:
    """x sigmoid(x)."""
    return code.op("mul", x, sigmoid(code, x))


def softplus(code: Code, x: Value) -> Value:
    """log(1 + exp x) = max(x, 0) + log1p(exp(-|x|))."""
    return code.op("add", at_least(code, x, 0.0), log1p_inside(code, _decay(code, x)))


def elu(code: Code, x: Value) -> Value:
    """x above 0, exp(x) - 1 below."""
    return code.op("select", code.op("gt", x, 0.0), x, expm1(code, x))


def gelu(code: Code, x: Value) -> Value:
    """x/2 (1 + erf(x/sqrt 2))."""
    factor = code.op("add", 1.0, erf(code, code.op("mul", x, math.sqrt(0.5))))
    return code.op("mul", code.op("mul", x, 0.5), factor)
