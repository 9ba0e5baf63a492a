"""The part of a model that is linear and diagonal in Fourier space, found in its right-hand sides.

A rate is taken apart into summands. One of the form `c * D u`, with D derivatives of the state u itself by
Fourier series along axes of its grid and c a number or an expression of the parameters, multiplies the
modes of u by a symbol. The sum of these symbols is what exponential integrators and exact flows of terms
need.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.ir.model import FourierSpec, ModelIR
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.types import Tensor

Degrees = tuple[int, ...]
Polynomial = dict[Degrees, float]
Terms = tuple[tuple[float, Degrees], ...]
UNIFORM = ("expand", "neg", "add", "sub", "mul", "div", "pow", "exp", "log", "sqrt", "const", "param")


@dataclass
class Found:
    """Summands of one rate: (factors of numbers, factors to divide by, sign, polynomial of derivatives)."""

    parts: list[tuple[tuple[Node, ...], tuple[Node, ...], float, Polynomial]] = field(default_factory=list)
    axes: tuple[int, ...] = ()
    lengths: tuple[float, ...] = ()
    rest: bool = False
    """Whether other summands are left."""


def with_fourier(model: ModelIR) -> ModelIR:
    """The model with `fourier`: the part of its whole drift, and of each term that is nothing else."""
    if model.drift is None or not any(a.kind == "fourier" for g in model.grids for a in g.axes):
        return model
    if any(s.complex for s in model.states):
        return model  # found while they were complex
    specs = list(_specs(model, "", model.drift, False))
    for name, function in model.terms.items():
        made = _specs(model, name, function, True)
        if made is not None:
            specs += made
    return replace(model, fourier=tuple(specs))


def _specs(model: ModelIR, term: str, function: Function, whole: bool) -> list[FourierSpec]:
    """The parts of one function. Of a term either every state's rate is found, or nothing."""
    made: list[FourierSpec] = []
    for state in model.states:
        output = dict(function.outputs).get(state.name)
        if output is None:
            return []
        found = Found()
        _take(function.graph, output, state.name, Around(), found)
        if whole and found.rest:
            return []
        if found.axes and found.parts:
            made.append(_spec(term, state.name, state.type, function, found))
        elif whole and found.parts:
            return []
    return made


@dataclass(frozen=True)
class Around:
    """What stands around a summand: factors, divisors, a sign, derivatives (the outermost first)."""

    times: tuple[Node, ...] = ()
    over: tuple[Node, ...] = ()
    sign: float = 1.0
    outer: tuple[Node, ...] = ()


def _take(graph: Graph, node: Node, state: str | Node, around: Around, found: Found) -> None:
    """The summands of a node; a derivative of a sum is the sum of the derivatives."""
    operands = graph.operands(node)
    if _is(node, state):
        polynomial: Polynomial = {(): 1.0}
        for derivative in reversed(around.outer):
            polynomial = _derived(derivative, polynomial, found)
        found.parts.append((around.times, around.over, around.sign, polynomial))
    elif node.op in ("add", "sub"):
        _take(graph, operands[0], state, around, found)
        last = around if node.op == "add" else replace(around, sign=-around.sign)
        _take(graph, operands[1], state, last, found)
    elif node.op == "neg":
        _take(graph, operands[0], state, replace(around, sign=-around.sign), found)
    elif node.op == "index" and (several := _entries(graph, operands[0], node)) is not None:
        for share, entry in several:
            _take(graph, entry, state, replace(around, sign=around.sign * share), found)
    elif node.op == "mul" and (number := _number(graph, operands[0])) is not None:
        _take(graph, operands[1], state, replace(around, times=(*around.times, number)), found)
    elif node.op == "mul" and (number := _number(graph, operands[1])) is not None:
        _take(graph, operands[0], state, replace(around, times=(*around.times, number)), found)
    elif node.op == "div" and (number := _number(graph, operands[1])) is not None:
        _take(graph, operands[0], state, replace(around, over=(*around.over, number)), found)
    elif node.op == "multiplier":
        _take(graph, operands[0], state, replace(around, outer=(*around.outer, node)), found)
    elif node.op == "truncate":
        # states have no modes beyond, so that what is linear is the same without it
        _take(graph, operands[0], state, around, found)
    elif not _zero(graph, node):
        found.rest = True


def _is(node: Node, state: str | Node) -> bool:
    """Whether a node is a state, by its name, or another node."""
    if isinstance(state, Node):
        return node.id == state.id
    return node.op == "input" and node.attr("name") == state


def diagonal(graph: Graph, node: Node, of: Node) -> tuple[Degrees, tuple[float, ...], Terms] | None:
    """A node as derivatives with constant coefficients of another one, by (axes, lengths, terms); None for
    anything else."""
    found = Found()
    _take(graph, node, of, Around(), found)
    if found.rest or not found.axes:
        return None
    total: Polynomial = {}
    for times, over, sign, polynomial in found.parts:
        if any(n.op != "const" for n in (*times, *over)):
            return None
        factor: Any = sign
        for n in times:
            factor *= n.attr("value")
        for n in over:
            factor /= n.attr("value")
        for degrees, c in polynomial.items():
            total[degrees] = total.get(degrees, 0.0) + factor * c
    count = len(found.axes)
    order = sorted(range(count), key=lambda k: found.axes[k])
    terms = tuple((c, tuple((*d, *(0,) * count)[k] for k in order)) for d, c in total.items())
    return tuple(found.axes[k] for k in order), tuple(found.lengths[k] for k in order), terms


def _entries(graph: Graph, node: Node, at: Node) -> list[tuple[float, Node]] | None:
    """Summands, with their signs, of an entry of a sum of lists: `[a, b] + [c, d]`; None for anything
    else."""
    operands = graph.operands(node)
    if node.op == "stack":
        return [(1.0, operands[at.attr("at")])] if node.attr("axis") == at.attr("axis") else None
    if node.op not in ("add", "sub", "neg"):
        return None
    signs = {"add": (1.0, 1.0), "sub": (1.0, -1.0), "neg": (-1.0,)}[node.op]
    found = []
    for sign, operand in zip(signs, operands):
        inner = _entries(graph, operand, at)
        if inner is None:
            return None
        found += [(sign * s, n) for s, n in inner]
    return found


def _number(graph: Graph, node: Node) -> Node | None:
    """The scalar that a node repeats, when it is an expression of constants and parameters alone."""
    source = node
    while source.op == "expand":
        source = graph.operands(source)[0]
    if not isinstance(source.type, Tensor) or source.type.rank:
        return None
    return source if all(n.op in UNIFORM for n in graph.needed([source])) else None


def _zero(graph: Graph, node: Node) -> bool:
    source = _number(graph, node)
    return source is not None and source.op == "const" and source.attr("value") == 0


def _derived(node: Node, inner: Polynomial, found: Found) -> Polynomial:
    """The derivatives that a node takes of derivatives of the state, over the axes that `found` has."""
    axes, lengths = node.attr("axes"), node.attr("lengths")
    for axis, length in zip(axes, lengths):
        if axis not in found.axes:
            found.axes, found.lengths = (*found.axes, axis), (*found.lengths, length)
    total: Polynomial = {}
    for factor, degrees in node.attr("terms"):
        for known, c in inner.items():
            added = dict(enumerate(known))
            for axis, degree in zip(axes, degrees):
                at = found.axes.index(axis)
                added[at] = added.get(at, 0) + degree
            key = _trimmed(tuple(added.get(k, 0) for k in range(len(found.axes))))
            total[key] = total.get(key, 0.0) + c * factor
    return total


def _trimmed(degrees: Degrees) -> Degrees:
    """Without zeros at the end: axes that come later are not there yet."""
    while degrees and degrees[-1] == 0:
        degrees = degrees[:-1]
    return degrees


def _spec(term: str, state: str, type_: Tensor, function: Function, found: Found) -> FourierSpec:
    """The symbol as a function of the parameters."""
    order = sorted(range(len(found.axes)), key=lambda k: found.axes[k])
    axes = tuple(found.axes[k] for k in order)
    shape = tuple(type_.extents[a] for a in axes)
    target = Rewriter(function.graph)
    inputs = tuple(target.copy(n) for n in function.inputs)
    whole: dict[str, Any] = {"whole": True} if type_.kind == "C" else {}
    total: Node | None = None
    for times, over, sign, polynomial in found.parts:
        terms = tuple(
            (sign * c, tuple((*degrees, *(0,) * len(order))[k] for k in order))
            for degrees, c in polynomial.items()
        )
        lengths = tuple(found.lengths[k] for k in order)
        part = target.add("symbol", shape=shape, lengths=lengths, terms=terms, **whole)
        for op, numbers in (("mul", times), ("div", over)):
            for number in numbers:
                assert isinstance(part.type, Tensor)
                size = tuple(n.constant for n in part.type.shape)
                wide = target.add("expand", [target.copy(number)], shape=size, axes=())
                part = target.add(op, [part, wide])
        total = part if total is None else target.add("add", [total, part])
    assert total is not None
    made = Function("symbol", target.graph, inputs, (("symbol", total),), function.params, function.parts)
    return FourierSpec(term, state, axes, made, bool(whole))


def described(model: ModelIR) -> str | None:
    """What was found, in the words of the model; None where nothing was."""
    if not model.fourier:
        return None
    parts = [f"{_written(model, s)} in the rate of `{s.state}`" for s in model.fourier if not s.term]
    terms = sorted({f"`{s.term}`" for s in model.fourier if s.term})
    found = []
    if parts:
        found.append(
            f"{' and '.join(parts)}: linear with constant coefficients, so that it multiplies each mode by a "
            f"number{'' if model.noises else '; `etdrk4(h=…)` follows it exactly'}"
        )
    if terms:
        found.append(
            f"{', '.join(terms)}: nothing else, so that `exact` in a splitting is one transform and back"
        )
    return "; ".join(found)


def _written(model: ModelIR, spec: FourierSpec) -> str:
    """The derivatives of a part: `dxx(u)`, `dyy(u)`, `u`."""
    grid = next(g for g in model.grids if any(a.kind == "fourier" for a in g.axes))
    names = []
    for node in spec.symbol.graph:
        for _, degrees in node.attr("terms") if node.op == "symbol" else ():
            letters = "".join(grid.axes[a].coordinate * n for a, n in zip(spec.axes, degrees))
            names.append(f"`d{letters}({spec.state})`" if letters else f"`{spec.state}`")
    return ", ".join(dict.fromkeys(names))
