"""A part applied under bound indices, `[f(x[i]) for i]`: its body, with the indices as array axes.

The weights stay those of the part, by dotted names, so that a net may be applied to one vector here and to
the rows of a matrix there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.evaluator import Evaluator, merge_axes
from ndl.compiler.check.values import Axis, TupleV, Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import EXTERN, FORMULA, Function
from ndl.compiler.ir.splice import dotted, part_of
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.builder import GraphBuilder


def mapped_call(
    ev: Evaluator, builder: GraphBuilder, name: str, part: Function, args: Sequence[Value], span: Span
) -> Any:
    """What the part gives for each value of the indices that are bound in its arguments."""
    axes = merge_axes(args)
    if part.doc in (EXTERN, FORMULA):
        raise fail(
            "NDL490",
            f"`{part.name}`, which comes from Python, under a bound index is not yet lowered",
            span,
            help="give it the whole array",
        )
    if part.remembers:
        raise fail(
            "NDL432",
            f"`{part.name}` keeps memory, which an application for each value of an index cannot change",
            span,
            help="apply it to the whole array",
        )
    draws = builder.applied_draws(name, _drawn_for_each(part, axes), span)
    given = [*args, *(Value(d.type, v.ref, axes) for d, v in zip(part.draws, draws))]
    inputs = dict(zip((n.attr("name") for n in part.inputs), given))
    found = body_of(ev, builder, part, inputs, name, span)
    return found[0] if len(found) == 1 else TupleV(tuple(found))


def _drawn_for_each(part: Function, axes: tuple[Axis, ...]) -> Function:
    """The part, with draws for each value of the indices."""
    lead = tuple(a.extent for a in axes)
    return replace(
        part,
        draws=tuple(replace(d, type=Tensor(d.type.kind, (*lead, *d.type.shape))) for d in part.draws),
    )


def body_of(
    ev: Evaluator, builder: GraphBuilder, part: Function, inputs: Mapping[str, Value], prefix: str, span: Span
) -> list[Value]:
    """The results of a function on values with bound indices, as nodes of the builder's graph."""
    image: dict[int, Value] = {}
    calls: dict[Any, list[Value]] = {}
    for node in part.graph.needed([n for _, n in part.results]):
        assert isinstance(node.type, Tensor)
        operands = [image[i] for i in node.inputs]
        attrs = dict(node.attrs)
        if node.op == "input":
            image[node.id] = inputs[attrs["name"]]
        elif node.op in ("param", "const", "training"):
            name = {"name": dotted(prefix, attrs["name"])} if node.op == "param" else {}
            made = builder.add(node.op, [], node.span, node.hint, node.type, **{**attrs, **name})
            image[node.id] = Value(node.type, made)
        elif node.op == "call":
            key = attrs["instance"], node.inputs
            if key not in calls:
                inner = part_of(part, attrs["instance"])
                given = dict(zip((n.attr("name") for n in inner.inputs), operands))
                calls[key] = body_of(ev, builder, inner, given, dotted(prefix, attrs["instance"]), span)
            image[node.id] = calls[key][attrs.get("index", 0)]
        else:
            value = ev.op(node.op, operands, node.span, **attrs)
            assert isinstance(value, Value)
            image[node.id] = value
    return [image[n.id] for _, n in part.results]
