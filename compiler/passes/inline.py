"""Inlining: every call becomes the body of what it calls, its weights named `part.sub.W`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ndl.compiler.ir.graph import Function, ParamSpec
from ndl.compiler.ir.splice import dotted, splice
from ndl.compiler.passes.rewrite import Rewriter


def all_params(
    params: tuple[ParamSpec, ...], parts: Mapping[str, Function], prefix: str = ""
) -> Iterator[ParamSpec]:
    """Weights of a function and of all below it, by dotted names."""
    for p in params:
        yield replace(p, name=dotted(prefix, p.name))
    for name, part in parts.items():
        yield from all_params(part.params, part.parts, dotted(prefix, name))


def inline(function: Function) -> Function:
    """The same function without calls and parts."""
    rewriter = Rewriter(function.graph)
    inputs = {n.attr("name"): rewriter.copy(n) for n in function.inputs}
    outputs = splice(rewriter, function, inputs, calls=True)
    return replace(
        function,
        graph=rewriter.graph,
        inputs=tuple(inputs.values()),
        outputs=tuple((name, node) for (name, _), node in zip(function.outputs, outputs)),
        params=tuple(all_params(function.params, function.parts)),
        parts={},
    )
