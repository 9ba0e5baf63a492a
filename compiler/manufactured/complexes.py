"""Complex values at a point, as sums `a + 1i*b` of expressions in real symbols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp
from ndl.compiler.symbolic.bridge import Cells
from ndl.compiler.symbolic.tensors import LAYOUTS, REDUCTIONS


def parts(e: Any) -> tuple[Any, Any]:
    """The real and the imaginary part."""
    found: tuple[Any, Any] = sp.expand(e).as_real_imag()
    return found


def size(e: Any) -> Any:
    return sp.sqrt(sp.Add(*(p**2 for p in parts(e))))


POINTWISE: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "pow": lambda a, b: a**b,
    "exp": sp.exp,
    "conj": lambda a: parts(a)[0] - sp.I * parts(a)[1],
    "real": lambda a: parts(a)[0],
    "imag": lambda a: parts(a)[1],
    "abs": size,
}
MOVED = {**LAYOUTS, **{name: REDUCTIONS[name] for name in ("sum", "mean", "matmul", "einsum")}}


def literal(value: Any) -> Cells:
    """A complex literal, exactly as it was written."""
    array = np.asarray(value, dtype=object)
    cells = np.empty(array.shape, dtype=object)
    for place in np.ndindex(array.shape):
        z = complex(array[place])
        cells[place] = sp.nsimplify(z.real, rational=True) + sp.I * sp.nsimplify(z.imag, rational=True)
    return cells


def image(op: str, operands: Sequence[Cells], attributes: Mapping[str, Any]) -> Cells | None:
    """What an op makes of complex operands; None where it is not known."""
    if op == "const":
        return literal(attributes["value"])
    if op in MOVED:
        found = MOVED[op](operands, attributes)
        return None if found is None else np.asarray(found, dtype=object)
    rule = POINTWISE.get(op)
    if rule is None or any(cells.shape != operands[0].shape for cells in operands):
        return None
    result = np.empty(operands[0].shape, dtype=object)
    for place in np.ndindex(result.shape):
        result[place] = rule(*(cells[place] for cells in operands))
    return result
