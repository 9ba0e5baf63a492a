"""The host: what `solve`, `train`, `table`, `path` and the rest do when a program runs."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    ModelV,
    describe,
)
from ndl.compiler.diagnostics import fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.host.failures import setting_named
from ndl.host.functions import Functions
from ndl.host.maps import Maps
from ndl.host.names import stmt_name
from ndl.host.objects import DataObject, ModelObject, SolutionObject
from ndl.host.over_sets import OverSets
from ndl.host.residuals import Residuals


class Host(Functions, Maps, OverSets, Residuals):
    """Runs one program: values and paths, instances, solves, functions, and here the named runs."""

    def named_run(self, stmt: tree.Stmt) -> Any:
        """`data = sweep`: a named run is a value, computed once."""
        if id(stmt) not in self.named:
            if isinstance(stmt, tree.Solve):
                self.named[id(stmt)] = self._solved(stmt)
            elif isinstance(stmt, tree.Train):
                from ndl.host.training import run_train

                self.named[id(stmt)] = run_train(self, stmt, {})
        return self.named[id(stmt)]

    def _solved(self, stmt: tree.Solve) -> Any:
        """A run's solution, or, where it is written in portions, the data set on disk."""
        from ndl.host.portions import portioned, write_portions
        from ndl.runtime.stored import store

        plan = portioned(self, stmt)
        if plan is None:
            return SolutionObject(self.run_solve(stmt))

        def written() -> Any:
            done = write_portions(self, plan)
            return DataObject(store(done.path, done.path.name))

        return self.guarded(written, stmt.span)

    def alias(self, stmt: tree.ModelAlias, scope: Scope) -> Any:
        """`model X = …`, worked out once."""
        if id(stmt) not in self.named:
            outer, self.naming = self.naming, stmt.name
            try:
                found = self.ev.eval(stmt.value, scope)
            finally:
                self.naming = outer
            if isinstance(found, ModelObject):
                found = found.source
            if not isinstance(found, ModelV):
                raise fail("NDL429", f"`{stmt.name}` must be a model, not {describe(found)}", stmt.value.span)
            self.named[id(stmt)] = found
        return self.named[id(stmt)]

    def run_solve(self, stmt: tree.Solve) -> Any:
        """A `solve` block."""
        scope = self.module.scope
        target = self.ev.eval(stmt.target, scope)
        settings = self.settings_of(stmt.settings, stmt_name(stmt))
        return self.guarded(
            lambda: self.solution(self.ev, target, settings, scope, stmt.span),
            stmt.span,
            lambda error: setting_named(settings, error.message) or stmt.span,
        )

    def settings_of(self, stmts: tuple[tree.Stmt, ...], name: str) -> dict[str, tuple[tree.Expr, Span]]:
        """Settings by name, with overrides from outside."""
        from ndl.host.overrides import overridden

        found: dict[str, tuple[tree.Expr, Span]] = {}
        for s in stmts:
            if isinstance(s, tree.Assign) and len(s.targets) == 1 and isinstance(s.targets[0], tree.Name):
                found[s.targets[0].id] = (s.value, s.targets[0].span)
        return overridden(found, name, self.overrides)
