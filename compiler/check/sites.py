"""Where a model's names get their values: nowhere when checking, graph inputs when lowering."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ndl.compiler.check.values import (
    UNKNOWN,
    Value,
)
from ndl.compiler.check.varied import Varied, check_varied
from ndl.compiler.check.weights import Item
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor, Units

if TYPE_CHECKING:
    from ndl.compiler.check.models import Elaboration


class Site(Protocol):
    """Where a model's names get their values: nowhere when checking, graph inputs when lowering."""

    def state(self, name: str, order: int, type: Tensor) -> Any: ...

    def weight(self, owner: Elaboration, item: Item, trainable: bool, decl: tree.DeclItem) -> Any: ...

    def input(self, name: str, type: Tensor, on_time: bool) -> Any: ...

    def input_rate(self, name: str, type: Tensor) -> Any: ...

    def noise(self, name: str, type: Tensor) -> Any: ...

    def coloured(self, owner: Elaboration, name: str, type: Tensor) -> Any: ...

    def draw(self, owner: Elaboration, stmt: tree.Draw, found: Any) -> Any: ...

    def member(self, owner: Elaboration, name: str, one: Varied, type: Tensor) -> Any: ...

    def time(self, unit: Units | None) -> Any: ...


class CheckSite:
    """Types only."""

    def state(self, name: str, order: int, type: Tensor) -> Any:
        return Value(type)

    def weight(self, owner: Elaboration, item: Item, trainable: bool, decl: tree.DeclItem) -> Any:
        return UNKNOWN if item.type is None else Value(item.type)

    def input(self, name: str, type: Tensor, on_time: bool) -> Any:
        return Value(type)

    def input_rate(self, name: str, type: Tensor) -> Any:
        return Value(type)

    def noise(self, name: str, type: Tensor) -> Any:
        return Value(type)

    def coloured(self, owner: Elaboration, name: str, type: Tensor) -> Any:
        return Value(type)

    def draw(self, owner: Elaboration, stmt: tree.Draw, found: Any) -> Any:
        return found

    def member(self, owner: Elaboration, name: str, one: Varied, type: Tensor) -> Any:
        check_varied(owner.ev, owner.prefix + name, one, type)
        return Value(type)

    def time(self, unit: Units | None) -> Any:
        return Value(Tensor(unit=unit))
