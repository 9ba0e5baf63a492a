"""Nets that no equation reads: weights of a model all the same, for losses and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndl.compiler.check.values import NetV, OperatorV, Value
from ndl.compiler.ir.graph import Graph
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.types import Map, Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.models import Elaboration
    from ndl.compiler.lower.models import ModelLowering


def keep_nets(lowering: ModelLowering, frame: Elaboration) -> None:
    """Lower the nets of a model or part whose signatures say all that their weights need: tensors of known
    extents, with one set of weights."""
    for name in frame.parts.nets:
        builder = GraphBuilder(Graph(), lowering.weights)
        inner = lowering.elaborated(builder).descend(frame.path)
        net = inner.lookup(name, 0)
        if not isinstance(net, NetV) or net.name in lowering.weights.parts or net.per is not None:
            continue
        if not isinstance(net.target, OperatorV) or not known(net.signature):
            continue
        assert isinstance(net.signature, Map)
        span = frame.parts.spans[name]
        args: list[Value] = []
        for i, type_ in enumerate(net.signature.params):
            assert isinstance(type_, Tensor)
            args.append(Value(type_, builder.add("input", [], span, type=type_, name=f"a{i}")))
        builder.apply_net(inner.ev, net, args, span)


def known(signature: Any) -> bool:
    """Whether a signature has tensors of known extents only."""
    if not isinstance(signature, Map):
        return False
    return all(
        isinstance(t, Tensor) and t.on is None and all(d.constant is not None for d in t.shape)
        for t in (*signature.params, signature.result)
    )
