"""What differs between the instances of a family that is a part, `leg = Spring(k ~ law)`.

`leg = family` makes the model a family too: its member number n has the family's member number n as a part.
`leg ~ family` draws one instance for each member and run, of a listed family each with the same chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.covariances import check_covariance
from ndl.compiler.check.scope import Deferred
from ndl.compiler.check.values import DistV, HostV, ListV, ModelV, RangeV, Unknown, Value, describe
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.evaluator import Evaluator
    from ndl.compiler.check.model_parts import Parts


@dataclass(frozen=True)
class Varied:
    """A name's law, or the list of its values; `drawn` says that an instance is drawn for each sample."""

    value: Any
    listed: bool
    drawn: bool
    span: Span

    def get(self) -> Any:
        return self.value.get() if isinstance(self.value, Deferred) else self.value


def varied(ev: Evaluator, model: ModelV, parts: Parts, drawn: bool, span: Span) -> dict[str, Varied]:
    """What differs between the instances of a family, by name; what is fixed when compiled cannot."""
    found: dict[str, Varied] = {}
    for listed, values in ((False, model.laws), (True, model.members)):
        for name, value in values.items():
            where = getattr(value, "span", None) or span
            if name == "seed" or name in parts.nets or any(p.name == name for p in parts.decl.options):
                ev.error(
                    "NDL327",
                    f"`{name}` is fixed when `{model.decl.name}` is compiled: members cannot differ in it",
                    where,
                )
                continue
            found[name] = Varied(value, listed, drawn, where)
    return found


def check_varied(ev: Evaluator, name: str, one: Varied, wanted: Tensor) -> None:
    """A law is a distribution, a list has members of the type that the name has."""
    value = one.get()
    if isinstance(value, (Unknown, HostV)):
        return
    if not one.listed:
        if not isinstance(value, DistV):
            ev.error("NDL328", f"`{name}` is drawn from a distribution, not from {describe(value)}", one.span)
        check_covariance(ev, name, value, wanted, one.span)
        return
    if not isinstance(value, (ListV, RangeV, Value)) or (isinstance(value, Value) and not value.type.shape):
        ev.error("NDL512", f"the members of `{name}` are a list, not {describe(value)}", one.span)
        return
    items = entries(ev, value, one.span)
    if isinstance(items, Value) and items.type.shape[1:] != wanted.shape:
        ev.error("NDL305", f"the members of `{name}` are {items.type}, but one is {wanted}", one.span)


def entries(ev: Evaluator, value: Any, span: Span) -> Any:
    """The list of members as a tensor."""
    if isinstance(value, RangeV):
        integers = ev.integers(value, span)
        value = ListV(tuple(float(i) for i in integers or ()))
    return ev.value(value, span)


__all__ = ["Varied", "check_varied", "entries", "varied"]
