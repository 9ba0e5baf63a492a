"""Mathematics for kernels: every op of the table that printers have no instruction for, in primitives.

Branch-free, without tables to look up: what SIMD lanes and GPU threads run well. The errors and the number of
instructions of each function stand in docs/kernels-math.md.
"""

from ndl.compiler.kernels.math.expand import expand
from ndl.compiler.kernels.math.exponential import exp, expm1
from ndl.compiler.kernels.math.hyperbolic import cosh, sinh, tanh
from ndl.compiler.kernels.math.logarithm import log, log1p
from ndl.compiler.kernels.math.power import pow
from ndl.compiler.kernels.math.trigonometric import cos, sin, tan

__all__ = ["cos", "cosh", "exp", "expand", "expm1", "log", "log1p", "pow", "sin", "sinh", "tan", "tanh"]
