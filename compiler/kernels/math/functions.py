"""Which function expands which op."""

from __future__ import annotations

from collections.abc import Callable

from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.activation import elu, gelu, relu, sigmoid, sign, silu, softplus
from ndl.compiler.kernels.math.coarse import coarse_power
from ndl.compiler.kernels.math.division import floordiv, mod
from ndl.compiler.kernels.math.error import erf
from ndl.compiler.kernels.math.exponential import exp, expm1
from ndl.compiler.kernels.math.gamma import digamma, lgamma
from ndl.compiler.kernels.math.hyperbolic import cosh, sinh, tanh
from ndl.compiler.kernels.math.inverse import acos, asin, atan, atan2
from ndl.compiler.kernels.math.logarithm import log, log1p
from ndl.compiler.kernels.math.power import pow
from ndl.compiler.kernels.math.random import normal_cos, normal_sin
from ndl.compiler.kernels.math.trigonometric import cos, sin, tan

FUNCTIONS: dict[str, Callable[..., Value]] = {
    "exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "pow": pow,
    "sin": sin, "cos": cos, "tan": tan, "asin": asin, "acos": acos, "atan": atan, "atan2": atan2,
    "sinh": sinh, "cosh": cosh, "tanh": tanh, "mod": mod, "floordiv": floordiv, "sign": sign,
    "sigmoid": sigmoid, "relu": relu, "silu": silu, "softplus": softplus, "elu": elu, "gelu": gelu,
    "erf": erf, "lgamma": lgamma, "digamma": digamma, "normal_cos": normal_cos, "normal_sin": normal_sin,
    "coarse_power": coarse_power,
}  # fmt: skip
