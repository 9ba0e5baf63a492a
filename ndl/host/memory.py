"""Memory of a `train` block: `state m = v` and `m <- e`, changed once after each step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from ndl.compiler.check.scope import Scope
from ndl.compiler.check.typing import resolve_type
from ndl.compiler.check.values import Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree
from ndl.host.builder import lift


class BlockMemory:
    """The states of a block by name, and what the step under way will make of them."""

    def __init__(self, ev: Any, stmts: Iterable[tree.Stmt], scope: Scope, precision: torch.dtype) -> None:
        self.ev = ev
        self.values: dict[str, torch.Tensor] = {}
        self.resets: dict[str, tree.Reset] = {}
        self._news: dict[str, list[torch.Tensor]] = {}
        for stmt in stmts:
            if isinstance(stmt, tree.Declare) and stmt.keyword == "state":
                for item in stmt.items:
                    self.values[item.name] = self._start(item, scope).to(precision)
            elif isinstance(stmt, tree.Reset):
                name = stmt.target.id if isinstance(stmt.target, tree.Name) else ""
                if name not in self.values:
                    raise fail(
                        "NDL433",
                        f"`{stmt.target.span.text}` is no memory: `<-` changes a `state`",
                        stmt.target.span,
                        help=f"declare `state {name or 'm'} = …` before it",
                    )
                self.resets[name] = stmt

    def _start(self, item: tree.DeclItem, scope: Scope) -> torch.Tensor:
        if item.per is not None:
            self.ev.not_lowered(f"memory per {item.per}", item.name_span)
        found = 0.0 if item.value is None else self.ev.eval(item.value, scope)
        value = self.ev.value(found, item.name_span)
        type_ = resolve_type(self.ev, item.type, scope) if item.type is not None else None
        shape = getattr(type_, "extents", tuple(value.ref.shape))
        start: torch.Tensor = value.ref.detach().to(torch.float64).expand(shape).clone()
        return start

    def names(self) -> dict[str, Any]:
        """The memory as the loss reads it: its values before the step."""
        return {n: lift(v.clone()) for n, v in self.values.items()}

    def note(self, scope: Scope) -> None:
        """Work out the new values for one sample."""
        for name, stmt in self.resets.items():
            value = self.ev.value(self.ev.eval(stmt.value, scope), stmt.value.span)
            if isinstance(value, Value):
                self._news.setdefault(name, []).append(value.ref.detach())

    def settle(self) -> None:
        """The step is done: each memory becomes the mean of what its samples made of it."""
        for name, values in self._news.items():
            self.values[name].copy_(torch.stack([v.to(self.values[name]) for v in values]).mean(0))
        self._news.clear()

    def forget(self) -> None:
        self._news.clear()
