"""Fields on a torus by their waves, and complex numbers from pairs of real ones.

Of the wavenumbers k in Z^d with |k_j| <= modes_j one of k and -k stands, that whose last entry other than 0
is positive, in the order of `wavenumbers`. They take one axis in the place of the axes of the points.
A wave is exp(2 pi i k . (start + j/n)), with `start` the lower ends in units of the lengths.

to_waves    (x; axis, modes, start, adjoint): x real with points along `axis` and the next ones -> the
            coefficients c_k = f_k sum_j x_j exp(-i k x_j); f_k is 1/N, halved for each |k_j| = n_j/2, and 0
            where the points cannot tell k from a longer wave
from_waves  (c; axis, modes, shape, start, adjoint): the real function with these coefficients at the points,
            u_j = Re sum_k w_k c_k exp(i k x_j); w is 1 of k = 0, else 2
            with `adjoint` f and w change places: each is then the adjoint of the other
pair        (x with a last axis of 2) -> the complex numbers x_0 + i x_1
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import fit, op
from ndl.compiler.ops.rules import dims, tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Modes = tuple[int, ...]


def wavenumbers(modes: Modes) -> list[tuple[int, ...]]:
    """Those of `dual(S, modes)`: of k and -k the one whose last entry other than 0 is positive."""
    every = itertools.product(*(range(-m, m + 1) for m in modes))
    return [k for k in every if next((i for i in reversed(k) if i), 0) >= 0]


def count(modes: Modes) -> int:
    """How many wavenumbers stand for all."""
    return (math.prod(2 * m + 1 for m in modes) + 1) // 2


def _to_rule(types: Sequence[Type], a: Attributes) -> Type:
    (x,) = tensors(types, "`fft`")
    if x.kind in ("C", "Bool"):
        raise TypeRuleError(f"`fft` is of a real field, and this is {x}", [0])
    first, many = a["axis"], len(a["modes"])
    return Tensor("C", (*x.shape[:first], Dim.of(count(a["modes"])), *x.shape[first + many :]))


def _from_rule(types: Sequence[Type], a: Attributes) -> Type:
    (c,) = tensors(types, "`ifft`")
    first = a["axis"]
    if c.shape[first].constant != count(a["modes"]):
        raise TypeRuleError(f"{c} has no coefficient for each wavenumber", [0])
    return Tensor("R", (*c.shape[:first], *dims(a["shape"]), *c.shape[first + 1 :]))


def _matrix(modes: Modes, shape: Sequence[int], start: Sequence[float], sign: int) -> Any:
    """The waves at the points, [wavenumbers, *shape], plainly."""
    import torch

    rows = []
    for k in wavenumbers(modes):
        phase = torch.zeros(tuple(shape), dtype=torch.float64)
        for axis, (entry, n, s) in enumerate(zip(k, shape, start)):
            along = entry * (s + torch.arange(n, dtype=torch.float64) / n)
            phase = phase + along.reshape([-1 if a == axis else 1 for a in range(len(k))])
        rows.append(torch.exp(sign * 2j * math.pi * phase))
    return torch.stack(rows)


def _factors(modes: Modes, shape: Sequence[int], mean: bool) -> Any:
    """f_k (`mean`) or w_k."""
    import torch

    found = []
    for k in wavenumbers(modes):
        if not mean:
            found.append(2.0 if any(k) else 1.0)
            continue
        told = all(2 * abs(entry) <= n for entry, n in zip(k, shape))
        ends = sum(2 * abs(entry) == n for entry, n in zip(k, shape))
        found.append(0.5**ends / math.prod(shape) if told else 0.0)
    return torch.tensor(found, dtype=torch.float64)


def _to_reference(x: Any, axis: int, modes: Modes, start: Any, adjoint: bool) -> Any:
    import torch

    many = len(modes)
    shape = tuple(x.shape[axis : axis + many])
    matrix = _matrix(modes, shape, start, -1).reshape(-1, math.prod(shape))
    flat = x.to(torch.complex128).flatten(axis, axis + many - 1)
    found = torch.tensordot(matrix, flat, dims=([1], [axis]))  # type: ignore[no-untyped-call]
    scaled = found * _factors(modes, shape, not adjoint).reshape(-1, *(1,) * (found.ndim - 1))
    return scaled.movedim(0, axis)


def _from_reference(c: Any, axis: int, modes: Modes, shape: Any, start: Any, adjoint: bool) -> Any:
    import torch

    matrix = _matrix(modes, shape, start, 1).reshape(-1, math.prod(shape))
    matrix = matrix * _factors(modes, shape, adjoint)[:, None]
    found = torch.tensordot(matrix, c.to(torch.complex128), dims=([0], [axis]))  # type: ignore[no-untyped-call]
    return found.real.movedim(0, axis).unflatten(axis, tuple(shape))


def _to_text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    (x,) = tensors(types, "`fft`")
    given = {"axis": a["axis"] - x.rank, "modes": a["modes"], "start": a["start"], "adjoint": a["adjoint"]}
    return call("ops.to_waves", texts[0], *(f"{n}={v!r}" for n, v in given.items()))


def _from_text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    (c,) = tensors(types, "`ifft`")
    given = {n: a[n] for n in ("modes", "shape", "start", "adjoint")}
    place = {"axis": a["axis"] - c.rank} | given
    return call("ops.from_waves", texts[0], *(f"{n}={v!r}" for n, v in place.items()))


def _to_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    (x,) = operands
    assert isinstance(x.type, Tensor)
    a = {n: node.attr(n) for n in ("axis", "modes", "start")}
    shape = x.type.extents[a["axis"] : a["axis"] + len(a["modes"])]
    back = op(graph, "from_waves", g, shape=shape, adjoint=not node.attr("adjoint"), **a)
    return [fit(graph, back, x)]


def _from_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    a = {n: node.attr(n) for n in ("axis", "modes", "start")}
    return [fit(graph, op(graph, "to_waves", g, adjoint=not node.attr("adjoint"), **a), operands[0])]


register(Op("to_waves", _to_rule, _to_reference, _to_text, _to_vjp, linear=(0,)))
register(Op("from_waves", _from_rule, _from_reference, _from_text, _from_vjp, linear=(0,)))


def _pair_rule(types: Sequence[Type], a: Attributes) -> Type:
    (x,) = tensors(types, "a complex number")
    if x.kind != "R" or not x.rank or x.shape[-1].constant != 2:
        raise TypeRuleError(f"{x} is no pair of real numbers", [0])
    return Tensor("C", x.shape[:-1], x.on)


def _pair_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    assert isinstance(g.type, Tensor)
    parts = [op(graph, "real", g), op(graph, "imag", g)]
    return [op(graph, "stack", *parts, axis=g.type.rank)]


register(
    Op(
        "pair",
        _pair_rule,
        lambda x: x[..., 0] + 1j * x[..., 1],
        lambda texts, types, a: call("ops.pair", texts[0]),
        _pair_vjp,
        linear=(0,),
    )
)
