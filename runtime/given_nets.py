"""Nets that are put in the place of a model's own.

A model is compiled with the operators of its nets: its kernels, its Jacobian and derivatives in its equations
are made of their formulas. Another module may stand there only where none of these is asked for.
"""

from __future__ import annotations

from types import CodeType
from typing import Any

from ndl.runtime.errors import SettingError
from ndl.runtime.weights import Part
from torch import nn


def alike(a: nn.Module, b: nn.Module) -> bool:
    """Whether two modules compute the same function of their weights, as far as their code tells."""
    if a is b:
        return True
    if not (isinstance(a, Part) and isinstance(b, Part)):
        return False
    if shapes(a) != shapes(b) or _code(type(a).forward.__code__) != _code(type(b).forward.__code__):
        return False
    names = list(a._modules)
    below = [(a._modules[n], b._modules.get(n)) for n in names]
    return names == list(b._modules) and all(
        x is not None and y is not None and alike(x, y) for x, y in below
    )


def shapes(part: Part) -> list[tuple[str, tuple[int, ...], float | None, float | None]]:
    """What tells the weights of two parts apart."""
    return [(p.name, tuple(p.shape), p.lower, p.upper) for p in part.PARAMETERS]


def _code(code: CodeType) -> tuple[Any, ...]:
    """What a function does, without where it stands."""
    inner = tuple(_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, inner


def refuse_derivatives(model: str, net: str) -> SettingError:
    """The error for another net where the equations hold derivatives of the model's own."""
    return SettingError(
        f"the equations of `{model}` differentiate its net `{net}` (or apply it to many values at once), and "
        "another kind of net is given",
        code="NDL675",
        help=f"write the net where the model is applied, `{model}({net}=MLP(width=32))`, or name one of the "
        f"file, `net g: … = MLP(width=32)` and `{model}({net}=g)`: the equations are then those of it",
    )
