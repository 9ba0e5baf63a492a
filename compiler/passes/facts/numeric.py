"""Numbers out of a function whose weights start at numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndl.compiler.ir.graph import Function, ParamSpec
from ndl.compiler.ir.interpret import interpret


class NotNumeric(Exception):
    """A value is known only in a run; the message says which."""


def evaluate(
    function: Function, inputs: Mapping[str, Any], weights: Mapping[str, ParamSpec]
) -> dict[str, Any]:
    """The outputs by name as float64 tensors, by the reference interpreter."""
    import torch

    values: dict[str, Any] = {}
    started: dict[str, Any] = {}
    for node in function.graph.needed([n for _, n in function.outputs]):
        name = str(node.attr("name", ""))
        if node.op in ("call", "path") or node.op.startswith("apply"):
            raise NotNumeric(f"`{node.attr('instance') or name or node.op}` is known only in a run")
        if node.op == "input":
            if name not in inputs:
                raise NotNumeric(f"`{name}` is given at run time")
            values[name] = torch.as_tensor(inputs[name], dtype=torch.float64)
        if node.op == "param":
            started[name] = start(weights, name)
    return interpret(function, values, started)


def start(weights: Mapping[str, ParamSpec], name: str) -> Any:
    """The value that a weight starts at; raises when it is drawn."""
    import torch

    spec = weights.get(name)
    if spec is None or spec.init is None:
        raise NotNumeric(f"`{name}` is drawn")
    value = torch.as_tensor(spec.init, dtype=torch.float64)
    return value.expand(spec.type.extents) if value.ndim == 0 else value
