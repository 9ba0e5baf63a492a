"""Fourier modes of fields times numbers of their own.

modal       (x, s; axes, whole): the modes of a real field along axes, multiplied by s; of the last of them s
            has the half 0 … n//2, with `whole`, where the result is complex, all of them
modal_dot   (x, g; axes, whole): the derivative of sum(g * modal(x, s)) by s
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import fit, op
from ndl.compiler.ops.rules import tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node


def _modes(x: Tensor, axes: Sequence[int], whole: bool = False) -> tuple[Dim, ...]:
    if whole:
        return tuple(x.shape[a] for a in axes)
    last = x.shape[axes[-1]].constant
    return (*(x.shape[a] for a in axes[:-1]), Dim.of(0 if last is None else last // 2 + 1))


def _rule(types: Sequence[Type], a: Attributes) -> Type:
    x, s = tensors(types, "a map of Fourier modes")
    whole = bool(a.get("whole"))
    if (x.kind == "C" and not whole) or s.shape != _modes(x, a["axes"], whole):
        raise TypeRuleError(f"{x} has no modes for {s}", [0, 1])
    return Tensor("C" if whole else "R", x.shape)


def _dot_rule(types: Sequence[Type], a: Attributes) -> Type:
    x, g = tensors(types, "a map of Fourier modes")
    if x.shape != g.shape:
        raise TypeRuleError(f"{x} and {g} differ", [0, 1])
    return Tensor("C", _modes(x, a["axes"], bool(a.get("whole"))))


def _wave(n: int, half: bool) -> Any:
    """The matrix of the transform along an axis."""
    import math

    import torch

    k = torch.arange(n // 2 + 1 if half else n, dtype=torch.float64)
    return torch.exp(-2j * math.pi * k[:, None] * torch.arange(n, dtype=torch.float64) / n)


def _transformed(x: Any, axes: Sequence[int], whole: bool = False) -> Any:
    import torch

    found = x.to(torch.complex128)
    for a in axes:
        matrix = _wave(x.shape[a], a == axes[-1] and not whole)
        found = torch.tensordot(matrix, found, dims=([1], [a])).movedim(0, a)  # type: ignore[no-untyped-call]
    return found


def _shares(n: int) -> Any:
    """How often each mode of the half stands in the whole."""
    import torch

    found = torch.full((n // 2 + 1,), 2.0, dtype=torch.float64)
    found[0] = 1.0
    if n % 2 == 0:
        found[-1] = 1.0
    return found


def _reference(x: Any, s: Any, axes: Sequence[int], whole: bool = False) -> Any:
    import torch

    found = _transformed(x, axes, whole).movedim(tuple(axes), tuple(range(len(axes))))
    found = found * s.reshape(*s.shape, *(1,) * (found.ndim - s.ndim))
    sizes = [x.shape[a] for a in axes]
    for k, n in enumerate(sizes):
        last = k == len(sizes) - 1 and not whole
        matrix = _wave(n, last).conj().T / n
        matrix = matrix * _shares(n) if last else matrix
        found = torch.tensordot(matrix, found, dims=([1], [k])).movedim(0, k)  # type: ignore[no-untyped-call]
    return (found if whole else found.real).movedim(tuple(range(len(axes))), tuple(axes))


def _dot_reference(x: Any, g: Any, axes: Sequence[int], whole: bool = False) -> Any:
    import math

    front = tuple(range(len(axes)))
    first, second = (_transformed(v, axes, whole).movedim(tuple(axes), front) for v in (x, g))
    product = (first.conj() * second).reshape(*first.shape[: len(axes)], -1).sum(-1)
    shares = 1.0 if whole else _shares(x.shape[axes[-1]])
    return product * shares / math.prod(x.shape[a] for a in axes)


def _text(name: str) -> Any:
    def text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
        x = types[0]
        assert isinstance(x, Tensor)
        axes = tuple(k - x.rank for k in a["axes"])
        more = ["True"] if a.get("whole") else []
        return call(f"ops.{name}", texts[0], texts[1], repr(axes), str(x.rank), *more)

    return text


def _vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    x, s = operands
    attrs = dict(node.attrs)
    back = op(graph, "modal", g, op(graph, "conj", s), **attrs)
    return [fit(graph, back, x), fit(graph, op(graph, "modal_dot", x, g, **attrs), s)]


register(Op("modal", _rule, _reference, _text("modal"), _vjp, linear=(0,), multilinear=True))
register(Op("modal_dot", _dot_rule, _dot_reference, _text("modal_dot")))
