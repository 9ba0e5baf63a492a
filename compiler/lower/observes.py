"""Measurements: `observe y ~ normal(C @ x, r)` as functions that give the law's arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndl.compiler.check.models import Elaboration
from ndl.compiler.check.values import DistV, Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.model import ObserveSpec
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.equations import filled
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.models import ModelLowering


def observes(lowering: ModelLowering) -> tuple[ObserveSpec, ...]:
    """The measurements of a model and its parts."""
    return tuple(_observe(lowering, f, o) for f in lowering.frames for o in f.parts.observes)


def _observe(lowering: ModelLowering, frame: Elaboration, stmt: tree.Observe) -> ObserveSpec:
    law = _law(lowering.scratch().descend(frame.path), stmt)
    values = [a for a in law.args if isinstance(a, Value)]
    domain = next((d for v in values if (d := lowering.space.domain_of(v.axes))), None)
    axes = lowering.space.axes[domain] if domain is not None else ()
    inner = next((v.type.shape for v in reversed(values) if v.type.rank), ())
    shape = Tensor("R", (*(a.extent for a in axes), *inner))

    def argument(k: int) -> Any:
        def make(root: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
            el = root.descend(frame.path)
            found = _law(el, stmt).args[k]
            value = float(found) if isinstance(found, int) else found
            return [(f"argument{k}", filled(el.ev, value, shape, stmt.law.span, axes))]

        return lowering.function(f"observe_{frame.prefix}{stmt.name}_{k}", make)

    arguments = tuple(argument(k) for k in range(len(law.args)))
    return ObserveSpec(frame.prefix + stmt.name, shape, law.law, arguments)


def _law(el: Elaboration, stmt: tree.Observe) -> DistV:
    law = el.ev.eval(stmt.law, el.scope)
    if not isinstance(law, DistV):
        raise fail("NDL328", f"`{stmt.name}` is measured with a distribution", stmt.law.span)
    args = tuple(a if isinstance(a, (int, float)) else el.ev.value(a, stmt.law.span) for a in law.args)
    return DistV(law.law, args, law.span)
