"""How many trajectories a kernel takes side by side on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.backends.llvm.host import registers
from ndl.compiler.kernels.arrays import has_arrays
from ndl.compiler.kernels.ir import Kernel

WIDTHS = {"f64": 8, "f32": 16}
"""Lanes of long kernels, and of what is printed for every machine: two AVX2 registers a value."""

SHORT = 1500
"""Instructions up to which a kernel without arrays takes as many lanes as two registers hold: they hide the
time that an operation takes, and are compiled half as long again."""

UNITS = 512
"""Units of all layers up to which the arrays of so many lanes stay in the first caches."""


def lanes_of(kernel: Kernel, layers: Sequence[tuple[int, ...]]) -> int:
    """Lanes of a kernel whose model has matrices of the shapes `layers` that are multiplied as such: two of
    this machine's registers a value where the kernel is not long and the layers are small. A weight of a net
    is then read once for both. All kernels of a net that others keep arrays for have as many."""
    wide = 2 * registers().bytes // (8 if kernel.precision == "f64" else 4)
    narrow = min(WIDTHS[kernel.precision], wide)
    if has_arrays(kernel):
        small = 0 < sum(max(shape) for shape in layers) <= UNITS
        return wide if small else narrow
    short = sum(1 for _, block in kernel.blocks() for _ in block.walk()) <= SHORT
    return wide if short else narrow
