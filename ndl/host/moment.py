"""One evaluation of a loss: what feeds the model, its run, and the names that a formula sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ndl.compiler.check.applications import as_method, parts_of
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.statements import run as run_statement
from ndl.compiler.check.values import ModelV, Value
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.host.block_draws import block_draw
from ndl.host.builder import lift
from ndl.host.feeding import chosen
from ndl.host.loss_names import annealed, branches, is_panel, likelihood
from ndl.host.objects import DataObject, ModelObject, NetObject, SolutionObject, net_objects
from ndl.host.sample import One, Sample, Unshared
from ndl.host.steps import StepsObject
from ndl.runtime.batches import Batch
from ndl.runtime.data import Table

RUN_SETTINGS = ("span", "method", "save", "gradient", "max_steps", "noise_step", "backend")


class Moment:
    """One evaluation of a loss: the batch, what feeds the model, and its run."""

    def __init__(self, loss: Any, table: Table | None, step: int, batch: Batch) -> None:
        self.loss, self.table, self.step, self.batch = loss, table, step, batch
        self.session, self.host = loss.session, loss.session.host
        self.inputs = loss.feeding.inputs
        self.fed: dict[str, Any] = {}
        self.fed = self._fed()
        self.solution = self._solve() if loss.solves else None

    @property
    def count(self) -> int:
        """Samples of the batch."""
        if self.table is not None and self.table.samples is not None:
            return self.table.samples
        if self.batch.index is not None:
            return len(self.batch.index)
        return self.session.whole("batch") or 1

    # ------------------------------------------------------------ what feeds the model

    def _fed(self) -> dict[str, Any]:
        """Inputs by name, of a batch `[samples, ...]` or families of paths: columns, draws, definitions."""
        source = self.loss.source(self.batch)
        if source is None or not is_panel(source):
            return self._made()
        kept = self.loss.feeding.whole(source, lambda: self._of(source))
        return self._made() if kept is None else chosen(kept, self.batch.index)

    def _of(self, table: Table) -> dict[str, Any]:
        """The inputs of a whole table."""
        own, self.table = self.table, table
        try:
            return self._made()
        finally:
            self.table = own

    def _made(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        feeding = self.loss.feeding
        panel = is_panel(self.table)
        if self.table is not None and panel:
            found = {n: self._column(n) for n in self.table if n in self.inputs - feeding.defined}
        if not feeding.stmts:
            return found
        made: dict[str, Any] = {}

        def evaluate(sample: Sample | None) -> torch.Tensor:
            scope = self._scope(sample, None)
            for stmt in feeding.stmts:
                self._run(stmt, scope, sample)
            for name in self.inputs & scope.names.keys():
                made[name] = self.host.given(scope.names[name], self.session.block.span)
            return torch.zeros(())

        if panel or self.loss.draws():
            self.loss.at_once(evaluate, self.count)
        else:
            evaluate(None)
        return found | made

    def _column(self, name: str) -> Any:
        """A column for an input; for one on time a path, straight between the known values."""
        from ndl.runtime.paths_in_time import linear
        from ndl.runtime.series import filled

        assert self.table is not None
        values, times = self.table[name], self.table.time
        on_time = any(i.name == name and i.on_time for _, m in self.session.models.values() for i in m.INPUTS)
        if not on_time or times is None or values.ndim < 2:
            return values
        wide = values if values.ndim > 2 else values[..., None]
        known = filled(times, wide)
        return linear(times, known if values.ndim > 2 else known[..., 0], family=True).marked(values)

    def instance(self, instance: Any) -> Any:
        """A model with what feeds it."""
        own = {n: v for n, v in self.fed.items() if any(i.name == n for i in instance.INPUTS)}
        return instance.bind(**own) if own else instance

    # ------------------------------------------------------------ the run

    def _solve(self) -> Any:
        """The first model's run at the data's times."""
        from ndl.host.failures import explained
        from ndl.runtime.solve import solve

        session, host, ev = self.session, self.host, self.host.ev
        model, instance = next(iter(session.models.values()))
        settings = {k: v for k, v in session.settings.items() if k in RUN_SETTINGS}
        found = {
            k: ev.eval(v[0], host._setting_scope(ev, ModelObject(instance, model), self._settings_scope(), k))
            for k, v in settings.items()
        }
        panel = is_panel(self.table)
        ensemble = self.count if panel or (self.fed and self.loss.draws()) else None
        instance = host.draws(self.instance(instance), ensemble, self.loss.seed, self.step)
        method = as_method(ev, found["method"], settings["method"][0].span) if "method" in found else None
        with explained(host, instance, model, session.block.span):
            return solve(
                instance,
                span=self._span(found, model),
                method=host.method(ev, model, method, found, session.block.span),
                save=self._save(found, model),
                ensemble=ensemble,
                seed=host.run_seed,
                gradient=host.gradient_mode(found.get("gradient")),
                precision=self.loss.precision,
                device=self.loss.device,
                backend=host.word(found.get("backend"), "auto"),
                repeats=self.loss.repeats,
                data_times=None if self.table is None else self.table.time,
                **({"max_steps": int(host.number(found["max_steps"]))} if "max_steps" in found else {}),
                noise_step=host.noise_step(found, settings),
            )

    def _settings_scope(self) -> Scope:
        """What settings of the run see: in a validation on other data, that data."""
        scope: Scope = self.session.scope
        return scope.child({"data": DataObject(self.session.validation)}) if self.batch.other else scope

    def _span(self, found: Mapping[str, Any], model: ModelV) -> tuple[float, float]:
        if "span" in found:
            span: tuple[float, float] = self.host.span(found["span"], model, self.session.block.span)
            return span
        times = None if self.table is None else self.table.time
        if times is None:
            span = self.host.span(None, model, self.session.block.span)
            return span
        return float(times[0]), float(times[-1])

    def _save(self, found: Mapping[str, Any], model: ModelV) -> Any:
        """The data's times; the end alone where nothing else is read."""
        if "save" in found:
            return self.host.saved(found["save"])
        parts = parts_of(self.host.ev, model.decl)
        recorded = {*parts.states, *parts.derived, "nll", *(o.name for o in parts.observes)}
        formulas = [f for f in (self.loss.expr, *self.session.others) if f is not None]
        read = {n.id for f in formulas for n in walk(f) if isinstance(n, tree.Name)}
        if not read & recorded:
            return "end"
        times = None if self.table is None else self.table.time
        return "steps" if times is None else times

    # ------------------------------------------------------------ names

    def scope(self, sample: Sample | None) -> Scope:
        """The names of a sample, the definitions of the block worked out."""
        scope = self._scope(sample, self.solution)
        for stmt in self.session.others:
            if id(stmt) not in self.loss.feeding.unread:
                self._run(stmt, scope, sample)
        return scope

    def _run(self, stmt: tree.Stmt, scope: Scope, sample: Sample | None) -> None:
        if isinstance(stmt, tree.Assign):
            run_statement(self.host.ev, stmt, scope)
        elif isinstance(stmt, tree.Draw):
            scope.names[stmt.name] = block_draw(self, stmt, scope, sample)

    def _names(self, solution: Any, sample: Sample | None) -> dict[str, Any]:
        """The model's parameters, nets and solved values by name."""
        names: dict[str, Any] = {}
        for model, instance in self.session.models.values():
            for p in instance.PARAMETERS:
                names[p.name] = lift(getattr(instance, p.attribute or p.name))
            names |= net_objects(instance)
            names.setdefault(model.decl.name, ModelObject(self.instance(instance), model))
        for name, module in self.session.nets.items():
            names[name] = NetObject(module)
        if solution is not None:
            shown, steady = (
                SolutionObject(solution, sample if solution.problem.ensemble else None),
                solution.problem.steady,
            )
            for name in solution.names() if solution.problem.save.kind != "end" else ():
                found = shown.path(name)
                # what is steady has no axis of times
                names[name] = lift(found.ref[0]) if steady else Value(found.type, found.ref)
            if not steady:
                names["t"] = lift(solution.t.to(self.loss.precision))
            names["final"] = shown.attribute(self.host.ev, "final", 0, self.session.block.span)
            names["steps"] = StepsObject(solution, shown.sample)
            names["stats"] = shown.attribute(self.host.ev, "stats", 0, self.session.block.span)
        return {**names, **branches(names)}

    def _scope(self, sample: Sample | None, solution: Any) -> Scope:
        names = {**self.session.varied, **self._names(solution, sample)}
        names |= {"step": self.step, "epoch": self.batch.epoch, "training": self.batch.training}
        names |= annealed(self.batch)
        table = self.table
        if table is not None:
            names["data"] = DataObject(table, sample if is_panel(table) else None)
            if "t" not in names and table.time is not None:
                names["t"] = lift(table.time.to(self.loss.precision))
            if solution is not None and solution.model.OBSERVES:
                k = sample.k if isinstance(sample, One) else None
                if sample is not None and sample.shared():
                    raise Unshared
                own = table if k is None else Table(
                    {n: v[k] for n, v in table.columns.items()}, table.time, False, table.source
                )  # fmt: skip
                names["nll"] = likelihood(solution, own, k)
        names |= self.loss.memory.names()
        primed = {k: v for k, v in names.items() if k.endswith("'")}

        def lazy(name: str, primes: int) -> Any:
            return primed.get(name + "'" * primes)

        plain = {k: v for k, v in names.items() if not k.endswith("'")}
        return Scope(self.session.host.module.scope, plain, lazy=lazy)
