"""Which function expands which op."""

from __future__ import annotations

from collections.abc import Callable

from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.exponential import exp, expm1
from ndl.compiler.kernels.math.hyperbolic import cosh, sinh, tanh
from ndl.compiler.kernels.math.logarithm import log, log1p
from ndl.compiler.kernels.math.power import pow
from ndl.compiler.kernels.math.trigonometric import cos, sin, tan

FUNCTIONS: dict[str, Callable[..., Value]] = {
    f.__name__: f for f in (exp, expm1, log, log1p, sin, cos, tan, sinh, cosh, tanh, pow)
}
