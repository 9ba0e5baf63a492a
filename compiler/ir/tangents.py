"""Forward derivatives of ops, for tangents of shape `operand.shape + extra`.

Only linear ops need a rule of their own; an elementwise op's partial derivatives come from its vjp,
and what is left (softmax, norms of a matrix, …) from the rows of its local Jacobian, which is small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ndl.compiler.ir.errors import InternalError
from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.ops.adjoint import kind, number, op, plain, spread, zeros
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.families.contraction import matmul_equation
from ndl.compiler.ops.families.map_functions import tangent as along_map
from ndl.compiler.ops.rules import axes_of
from ndl.compiler.ops.table import lookup
from ndl.compiler.types import Dim, Tensor

Dots = Sequence["Node | None"]
Vjp = Callable[[Graph, Node, Sequence[Node], Node], Sequence["Node | None"]]
LINEAR_IN_FRONT = frozenset(
    {"stencil", "mask", "lift", "lower", "multiplier", "truncate", "to_waves"}
    | {"from_waves", "mesh_apply", "mesh_solve"}
)
"""Linear ops of leading axes, after which any more may follow."""
ROWS = 256
"""Entries of a result beyond which its local Jacobian is not unrolled."""


def tangent(
    graph: Graph, node: Node, operands: Sequence[Node], dots: Dots, extra: tuple[Dim, ...]
) -> Node | None:
    """The tangent of one node, None when it is zero."""
    entry = lookup(node.op)
    if node.op in ("argmax", "argmin", "stop_gradient") or kind(node) in ("Z", "Bool"):
        return None
    if node.op in ("expand", "reshape", "permute", "slice", "index", "sum", "mean", "cumsum", "gather"):
        return _structural(graph, node, operands, dots[0], extra)
    if node.op in LINEAR_IN_FRONT:
        (dot,) = dots
        return None if dot is None else graph.add(node.op, [dot], **dict(node.attrs))
    if node.op in ("stack", "concat"):
        whole = [d if d is not None else zeros(graph, shape_of(o) + extra) for o, d in zip(operands, dots)]
        rank = len(shape_of(node))
        return graph.add(node.op, whole, axis=node.attr("axis") % rank)
    if node.op in ("matmul", "einsum"):
        return _contraction(graph, node, operands, dots, extra)
    if node.op in ("unfold", "fold"):
        return _carried(graph, node, dots[0], extra)
    if node.op in ("convolve", "convolve_back"):
        return _convolution(graph, node, operands, dots, extra)
    if node.op == "select":
        return _select(graph, node, operands, dots, extra)
    if node.op == "solve":
        return _solve(graph, node, operands, dots, extra)
    if node.op == "apply":
        return _apply(graph, node, operands, dots, extra)
    if node.op == "map_function":
        return along_map(graph, node, operands, dots, extra)
    if entry.scalar is not None:
        return _elementwise(graph, node, operands, dots, extra)
    return _rows(graph, node, operands, dots, extra)


def _plus(graph: Graph, a: Node | None, b: Node | None) -> Node | None:
    if a is None or b is None:
        return a if b is None else b
    return graph.add("add", [a, b])


def _widened(graph: Graph, node: Node, extra: tuple[Dim, ...]) -> Node:
    """A value repeated along the extra axes."""
    shape = shape_of(node)
    return spread(graph, node, shape + extra, tuple(range(len(shape))))


def _elementwise(
    graph: Graph, node: Node, operands: Sequence[Node], dots: Dots, extra: tuple[Dim, ...]
) -> Node | None:
    """The sum of partial derivatives times tangents; a partial is the vjp of one."""
    if node.op in ("real", "imag", "conj"):
        (dot,) = dots
        return None if dot is None else graph.add(node.op, [dot])
    if node.op == "neg":
        (dot,) = dots
        return None if dot is None else graph.add("neg", [dot])
    if node.op in ("add", "sub"):
        a, b = dots
        if node.op == "add" or b is None:
            return _plus(graph, a, b)
        return graph.add("neg", [b]) if a is None else graph.add("sub", [a, b])
    rule = entry_vjp(node)
    partials = rule(graph, node, operands, number(graph, 1.0, node))
    total: Node | None = None
    for partial, dot in zip(partials, dots):
        if partial is not None and dot is not None:
            if kind(node) == "C":
                # a vjp gives the conjugate of a holomorphic derivative
                partial = graph.add("conj", [partial]) if kind(partial) == "C" else partial
            total = _plus(graph, total, graph.add("mul", [_widened(graph, partial, extra), dot]))
    return total


def entry_vjp(node: Node) -> Vjp:
    from ndl.compiler.ir.autodiff import NotDifferentiable

    rule = lookup(node.op).vjp
    if rule is None:
        raise NotDifferentiable(node)
    return rule


def _structural(
    graph: Graph, node: Node, operands: Sequence[Node], dot: Node | None, extra: tuple[Dim, ...]
) -> Node | None:
    """Linear ops of one operand: the same op, the extra axes carried along."""
    if dot is None:
        return None
    x = operands[0]
    rank, attrs = len(shape_of(x)), dict(node.attrs)
    behind = tuple(range(rank, rank + len(extra)))
    if node.op == "expand":
        target = shape_of(node)
        tail = tuple(range(len(target), len(target) + len(extra)))
        full = (*target, *extra)
        return spread(graph, dot, full, (*attrs["axes"], *tail))
    if node.op == "reshape":
        return graph.add("reshape", [dot], shape=tuple(plain(n) for n in (*shape_of(node), *extra)))
    if node.op == "permute":
        return graph.add("permute", [dot], axes=(*attrs["axes"], *behind))
    if node.op in ("sum", "mean"):
        axes = axes_of(attrs, rank, node.op)
        return graph.add(node.op, [dot], axes=axes) if axes else dot
    attrs["axis"] = attrs["axis"] % rank
    return graph.add(node.op, [dot, *operands[1:]], **attrs)


SPARE = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _contraction(
    graph: Graph, node: Node, operands: Sequence[Node], dots: Dots, extra: tuple[Dim, ...]
) -> Node | None:
    """The product rule: each operand in turn replaced by its tangent."""
    if node.op == "matmul":
        equation = matmul_equation(len(shape_of(operands[0])), len(shape_of(operands[1])))
    else:
        equation = node.attr("equation").replace(" ", "")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    tail = "".join([c for c in SPARE if c not in equation][: len(extra)])
    total: Node | None = None
    for i, dot in enumerate(dots):
        if dot is None:
            continue
        sources = [dot if j == i else o for j, o in enumerate(operands)]
        moved = [t + tail if j == i else t for j, t in enumerate(terms)]
        piece = graph.add("einsum", sources, equation=f"{','.join(moved)}->{right}{tail}")
        total = _plus(graph, total, piece)
    return total


def _carried(graph: Graph, node: Node, dot: Node | None, extra: tuple[Dim, ...]) -> Node | None:
    """An op on the last axes: the extra ones go in front of the others, and back."""
    if dot is None:
        return None
    inner = len(shape_of(dot)) - len(extra)
    front = op(graph, "permute", dot, axes=(*range(inner, inner + len(extra)), *range(inner)))
    found = graph.add(node.op, [front], **dict(node.attrs))
    rank = len(shape_of(node))
    return op(graph, "permute", found, axes=(*range(len(extra), len(extra) + rank), *range(len(extra))))


def _convolution(
    graph: Graph, node: Node, operands: Sequence[Node], dots: Dots, extra: tuple[Dim, ...]
) -> Node | None:
    """The product rule. For the tangents of a kernel, each of them is a kernel of its own."""
    K, x = operands
    K_dot, x_dot = dots
    attrs, count = dict(node.attrs), len(extra)
    rank = len(shape_of(node))
    total: Node | None = None
    if x_dot is not None:
        inner = len(shape_of(x))
        front = op(graph, "permute", x_dot, axes=(*range(inner, inner + count), *range(inner)))
        moved = graph.add(node.op, [K, front], **attrs)
        total = op(graph, "permute", moved, axes=(*range(count, count + rank), *range(count)))
    if K_dot is not None:
        flat = op(graph, "reshape", K_dot, shape=(*(plain(n) for n in shape_of(K)), _columns(extra)))
        each = [op(graph, "index", flat, axis=len(shape_of(K)), at=k) for k in range(_columns(extra))]
        pieces = [graph.add(node.op, [piece, x], **attrs) for piece in each]
        stacked = graph.add("stack", pieces, axis=rank)
        full = tuple(plain(n) for n in (*shape_of(node), *extra))
        total = _plus(graph, total, op(graph, "reshape", stacked, shape=full))
    return total


def _select(
    graph: Graph, node: Node, operands: Sequence[Node], dots: Dots, extra: tuple[Dim, ...]
) -> Node | None:
    _, a, b = dots
    if a is None and b is None:
        return None
    nothing = zeros(graph, shape_of(node) + extra)
    condition = _widened(graph, operands[0], extra)
    return graph.add("select", [condition, a if a is not None else nothing, b if b is not None else nothing])


def _columns(extra: tuple[Dim, ...]) -> int:
    total = 1
    for n in Tensor("R", extra).extents:
        total *= n
    return total


def _solve(
    graph: Graph, node: Node, operands: Sequence[Node], dots: Dots, extra: tuple[Dim, ...]
) -> Node | None:
    """A x = b gives A dx = db - dA x, all extra columns solved at once."""
    a_dot, b_dot = dots
    right = b_dot
    if a_dot is not None:
        tail = SPARE[: len(extra)]
        equation = f"ij{tail},j->i{tail}" if len(shape_of(node)) == 1 else f"ij{tail},jk->ik{tail}"
        moved = graph.add("neg", [graph.add("einsum", [a_dot, node], equation=equation)])
        right = _plus(graph, right, moved)
    if right is None:
        return None
    n = shape_of(node)[0].constant or 0
    count = _columns(shape_of(right)[1:])
    flat = op(graph, "reshape", right, shape=(n, count))
    solved = op(graph, "solve", operands[0], flat)
    return op(graph, "reshape", solved, shape=tuple(plain(d) for d in shape_of(right)))


def _apply(
    graph: Graph, node: Node, operands: Sequence[Node], dots: Dots, extra: tuple[Dim, ...]
) -> Node | None:
    """The callable's Jacobian by each operand, contracted with its tangent."""
    total: Node | None = None
    for i, (x, dot) in enumerate(zip(operands, dots)):
        if dot is None:
            continue
        outer, inner = shape_of(node), shape_of(x)
        slope = graph.add(
            "apply_jac", operands, type=Tensor("R", outer + inner), callee=node.attr("callee"), wrt=i
        )
        total = _plus(graph, total, _contract(graph, slope, dot, outer, inner, extra))
    return total


def _contract(
    graph: Graph, slope: Node, dot: Node, outer: Sequence[Dim], inner: Sequence[Dim], extra: Sequence[Dim]
) -> Node:
    """sum over the inner axes of slope [outer, inner] * dot [inner, extra]."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    o, i = letters[: len(outer)], letters[len(outer) : len(outer) + len(inner)]
    e = SPARE[: len(extra)]
    return graph.add("einsum", [slope, dot], equation=f"{o}{i},{i}{e}->{o}{e}")


def _rows(
    graph: Graph, node: Node, operands: Sequence[Node], dots: Dots, extra: tuple[Dim, ...]
) -> Node | None:
    """Any other op: its local Jacobian, a pulled-back unit vector for each entry of the result."""
    rule = entry_vjp(node)
    extents = Tensor("R", shape_of(node)).extents
    count = _columns(shape_of(node))
    if count > ROWS:
        raise InternalError(f"the Jacobian of `{node.op}` with {count} entries is too large", "NDL902")
    slopes: list[list[Node | None]] = []
    for k in range(count):
        unit: Node = graph.add("const", value=1.0)
        if extents:
            flat = graph.add("const", value=tuple(float(j == k) for j in range(count)))
            unit = flat if len(extents) == 1 else op(graph, "reshape", flat, shape=extents)
        slopes.append(list(rule(graph, node, operands, unit)))
    total: Node | None = None
    for i, (x, dot) in enumerate(zip(operands, dots)):
        rows = [row[i] for row in slopes]
        if dot is None or all(r is None for r in rows):
            continue
        whole = [r if r is not None else zeros(graph, shape_of(x)) for r in rows]
        stacked = graph.add("stack", whole, axis=0) if extents else whole[0]
        if len(extents) > 1:
            full = (*extents, *(plain(n) for n in shape_of(x)))
            stacked = op(graph, "reshape", stacked, shape=full)
        piece = _contract(graph, stacked, dot, shape_of(node), shape_of(x), extra)
        total = _plus(graph, total, piece)
    return total
