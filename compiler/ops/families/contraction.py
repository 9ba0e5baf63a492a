"""Contractions: products summed over shared axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import conj, fit, kind, spread
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.rules import common_domain, numeric, product_unit, promote, tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import PRODUCT, Text, at, call
from ndl.compiler.types import Dim, Tensor, Type, Units, unit_product

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Cotangents = list["Node | None"]
WHAT = "a matrix product"


def _matmul_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    a, b = operands = tensors(types, WHAT)
    numeric(operands, WHAT)
    for i, t in enumerate(operands):
        if t.rank == 0:
            raise TypeRuleError(f"`@` contracts axes, and this is {t}", [i], "write `*` for a number")
    if a.shape[-1] != b.shape[0]:
        raise TypeRuleError(
            f"`@` sums over the last axis of the left side ({a.shape[-1]}) and the first of the right "
            f"({b.shape[0]}), and they differ",
            [0, 1],
        )
    on = common_domain(operands, WHAT)
    return Tensor(promote(operands), a.shape[:-1] + b.shape[1:], on, product_unit(a, b))


def _matmul_reference(a: Any, b: Any) -> Any:
    import torch

    wide = torch.promote_types(a.dtype, b.dtype)
    return torch.tensordot(a.to(wide), b.to(wide), dims=1)


def matmul_equation(left: int, right: int) -> str:
    """The einsum of `a @ b` for operands of these ranks."""
    a, b = "abcdefgh"[: left - 1], "pqrstuvw"[: right - 1]
    return f"{a}z,z{b}->{a}{b}"


def _matmul_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    ranks = tuple(t.rank for t in types if isinstance(t, Tensor))
    kinds = {t.kind for t in types if isinstance(t, Tensor)}
    if len(kinds) > 1:
        return call("ops.einsum", f'"{batched(matmul_equation(*ranks))}"', *texts)
    if ranks == (1, 1):
        return call("ops.dot", *texts)
    if ranks == (2, 1):
        return call("ops.matvec", *texts)
    if ranks == (1, 2):
        return call("ops.vecmat", *texts)
    if ranks == (2, 2):
        return Text(f"{at(texts[0], PRODUCT)} @ {at(texts[1], PRODUCT + 1)}", PRODUCT)
    return call("torch.einsum", f'"{batched(matmul_equation(*ranks))}"', *texts)


def batched(equation: str) -> str:
    """An einsum equation with any leading batch axes in every term."""
    left, right = equation.split("->")
    return ",".join("..." + term for term in left.split(",")) + "->..." + right


def _matmul_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    ranks = [len(shape_of(x)) for x in operands]
    equation = matmul_equation(ranks[0], ranks[1])
    return einsum_cotangents(graph, equation, operands, g)


register(Op("matmul", _matmul_rule, _matmul_reference, _matmul_text, _matmul_vjp, multilinear=True))


def _parse(attributes: Attributes) -> tuple[list[str], str]:
    left, _, right = attributes["equation"].replace(" ", "").partition("->")
    return left.split(","), right


def _einsum_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    operands = tensors(types, "a contraction")
    numeric(operands, "a contraction")
    terms, result = _parse(attributes)
    if len(terms) != len(operands) or any(len(s) != t.rank for s, t in zip(terms, operands)):
        raise TypeRuleError(f"`{attributes['equation']}` does not fit the ranks of its operands")
    extents: dict[str, tuple[Dim, int]] = {}
    for i, (term, t) in enumerate(zip(terms, operands)):
        for letter, n in zip(term, t.shape):
            seen, where = extents.setdefault(letter, (n, i))
            if seen != n:
                raise TypeRuleError(f"an index runs over {seen} here and over {n} there", [where, i])
    if any(letter not in extents for letter in result) or len(set(result)) != len(result):
        raise TypeRuleError(f"`{attributes['equation']}` has a result index that no operand has")
    unit: Units | None = ()
    for t in operands:
        unit = None if unit is None or t.unit is None else unit_product(unit, t.unit)
    shape = tuple(extents[letter][0] for letter in result)
    return Tensor(promote(operands), shape, common_domain(operands, "a contraction"), unit)


def _einsum_reference(*operands: Any, equation: str) -> Any:
    import torch

    wide = operands[0].dtype
    for x in operands[1:]:
        wide = torch.promote_types(wide, x.dtype)
    return torch.einsum(equation, *(x.to(wide) for x in operands))


def _einsum_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    mixed = len({t.kind for t in types if isinstance(t, Tensor)}) > 1
    function = "ops.einsum" if mixed else "torch.einsum"
    return call(function, f'"{batched(attributes["equation"].replace(" ", ""))}"', *texts)


def einsum_cotangents(graph: Graph, equation: str, operands: Sequence[Node], g: Node) -> Cotangents:
    """Each operand's cotangent: g contracted with the others. An index that only this operand has
    was summed, so that its cotangent is constant along it; a repeated one picks a diagonal."""
    terms, result = _parse({"equation": equation})
    found: Cotangents = []
    for i, x in enumerate(operands):
        if kind(x) in ("Z", "Bool"):
            found.append(None)
            continue
        others = [(t, o) for j, (t, o) in enumerate(zip(terms, operands)) if j != i]
        letters = "".join(dict.fromkeys(terms[i]))
        reachable = set(result).union(*(t for t, _ in others))
        kept = "".join(c for c in letters if c in reachable)
        sources = [g, *(conj(graph, o) for _, o in others)]
        inner = ",".join([result, *(t for t, _ in others)])
        c = graph.add("einsum", sources, equation=f"{inner}->{kept}")
        extent = dict(zip(terms[i], shape_of(x)))
        if kept != letters:
            c = spread(graph, c, [extent[s] for s in letters], tuple(letters.index(s) for s in kept))
        if letters != terms[i]:
            c = _on_diagonal(graph, c, letters, terms[i], extent)
        found.append(fit(graph, c, x))
    return found


def _on_diagonal(graph: Graph, c: Node, letters: str, term: str, extent: dict[str, Dim]) -> Node:
    """Places c[i, …] where a repeated index of the operand agrees, and zeros elsewhere."""
    fresh, equals, sources = "", [], []
    spare = iter("ABCDEFGH")
    seen: set[str] = set()
    for letter in term:
        if letter not in seen:
            seen.add(letter)
            fresh += letter
            continue
        twin = next(spare)
        fresh += twin
        n = extent[letter].constant or 0
        unit = tuple(tuple(float(i == j) for j in range(n)) for i in range(n))
        sources.append(graph.add("const", value=unit))
        equals.append(letter + twin)
    return graph.add("einsum", [c, *sources], equation=f"{','.join([letters, *equals])}->{fresh}")


def _einsum_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    return einsum_cotangents(graph, node.attr("equation"), operands, g)


register(Op("einsum", _einsum_rule, _einsum_reference, _einsum_text, _einsum_vjp, multilinear=True))
