"""What feeds the model of a training: definitions that are named like inputs, and paths made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from torch import Tensor

from ndl.compiler.check.values import ModelV, NetV, OperatorV
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.host.loss_names import names_of
from ndl.runtime.data import Table
from ndl.runtime.paths_in_time import PiecewiseCubic

CHANGING = frozenset({"step", "epoch", "training", "decay", "ramp", "prev"})
LARGE = 20_000_000
"""Numbers of a table above which its paths are made for each batch."""


class Feeding:
    """The definitions of a block for the inputs of its models, and what was made of them."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.inputs = {i.name for _, m in session.models.values() for i in m.INPUTS}
        self.kept: dict[int, tuple[Table, dict[str, Any] | None]] = {}

    @cached_property
    def stmts(self) -> list[tree.Stmt]:
        """The definitions and draws that are named like inputs, and those that they read, in order."""
        found: list[tree.Stmt] = []
        wanted = set(self.inputs)
        for stmt in reversed(self.session.others):
            if names_of(stmt) & wanted:
                found.append(stmt)
                wanted |= _read(stmt)
        return found[::-1]

    @cached_property
    def defined(self) -> set[str]:
        """The inputs that definitions give."""
        return {n for s in self.stmts for n in names_of(s)} & self.inputs

    @cached_property
    def unread(self) -> set[int]:
        """The statements that no formula reads, but only the inputs, by identity."""
        mine = {id(s) for s in self.stmts}
        formulas: list[Any] = [value for value, _ in self.session.settings.values()]
        formulas += [s for s in self.session.others if id(s) not in mine]
        wanted = {n for f in formulas for n in _read(f)}
        found: set[int] = set()
        for stmt in reversed(self.stmts):
            if names_of(stmt) & wanted:
                wanted |= _read(stmt)
            else:
                found.add(id(stmt))
        return found

    @cached_property
    def constant(self) -> bool:
        """Whether a sample's inputs are functions of its data alone, in every step."""
        changing = set(CHANGING) | set(self.session.nets)
        for model, instance in self.session.models.values():
            changing |= {model.decl.name, *instance._modules, *(p.name for p in instance.PARAMETERS)}
        own = {n for s in self.stmts for n in names_of(s)}
        scope = self.session.host.module.scope
        for stmt in self.stmts:
            if not isinstance(stmt, tree.Assign):
                return False
            for name in _read(stmt) - own:
                if name in changing or isinstance(scope.find(name), (ModelV, NetV, OperatorV)):
                    return False
        return not any(isinstance(s, (tree.Declare, tree.Reset, tree.Phase)) for s in self.session.others)

    def whole(self, table: Table, make: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """The inputs of all samples of a table, made once; None where they are made for each batch."""
        if table.lazy or "horizon" in self.session.settings or not self.constant:
            return None
        if sum(v.numel() for v in table.columns.values()) > LARGE:
            return None
        if id(table) not in self.kept:
            made = make()
            plain = all(
                isinstance(v, Tensor) or (isinstance(v, PiecewiseCubic) and v.family) for v in made.values()
            )
            self.kept[id(table)] = (table, made if plain else None)
        return self.kept[id(table)][1]


def _divisible(value: Any) -> bool:
    """Whether some samples of an input can be taken."""
    return isinstance(value, Tensor) or (isinstance(value, PiecewiseCubic) and value.family)


def chosen(made: dict[str, Any], index: Tensor | None) -> dict[str, Any]:
    """The inputs of some samples."""
    if index is None:
        return made
    return {n: v.select(index) if isinstance(v, PiecewiseCubic) else v[index] for n, v in made.items()}


def _read(node: Any) -> set[str]:
    return {n.id for n in walk(node) if isinstance(n, tree.Name)}
