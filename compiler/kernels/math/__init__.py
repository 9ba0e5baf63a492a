"""Mathematics for kernels: every op of the table that printers have no instruction for, in primitives.

Branch-free, without tables to look up: what SIMD lanes and GPU threads run well. The errors and the number of
instructions of each function stand in docs/kernels-math.md.
"""

from ndl.compiler.kernels.math.activation import elu, gelu, relu, sigmoid, sign, silu, softplus
from ndl.compiler.kernels.math.division import floordiv, mod
from ndl.compiler.kernels.math.error import erf
from ndl.compiler.kernels.math.expand import expand
from ndl.compiler.kernels.math.exponential import exp, expm1
from ndl.compiler.kernels.math.functions import FUNCTIONS
from ndl.compiler.kernels.math.gamma import digamma, lgamma
from ndl.compiler.kernels.math.hyperbolic import cosh, sinh, tanh
from ndl.compiler.kernels.math.inverse import acos, asin, atan, atan2
from ndl.compiler.kernels.math.logarithm import log, log1p
from ndl.compiler.kernels.math.power import pow
from ndl.compiler.kernels.math.random import normal_pair, philox, uniform53
from ndl.compiler.kernels.math.trigonometric import cos, sin, tan

__all__ = [
    "FUNCTIONS",
    "acos",
    "asin",
    "atan",
    "atan2",
    "cos",
    "cosh",
    "digamma",
    "elu",
    "erf",
    "exp",
    "expand",
    "expm1",
    "floordiv",
    "gelu",
    "lgamma",
    "log",
    "log1p",
    "mod",
    "normal_pair",
    "philox",
    "pow",
    "relu",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinh",
    "softplus",
    "tan",
    "tanh",
    "uniform53",
]
