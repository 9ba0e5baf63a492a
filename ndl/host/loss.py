"""The loss of a training: the model's run at the data's times, then a formula that speaks of one sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ndl.compiler.check.applications import parts_of
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import ModelV, Unknown
from ndl.compiler.diagnostics import fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.host.feeding import Feeding
from ndl.host.horizon import cut
from ndl.host.loss_names import is_panel
from ndl.host.memory import BlockMemory
from ndl.host.moment import Moment
from ndl.host.sample import One, Sample, Unshared, for_all, one_by_one
from ndl.runtime.batches import MIX, Batch
from ndl.runtime.chance import prepare
from ndl.runtime.data import Table
from ndl.runtime.draws import Chance
from ndl.runtime.weights import Part

ALONE = frozenset({"diff", "jac", "grad", "root", "distance", "closest"})
"""Functions whose derivatives are taken sample by sample."""


class Loss:
    """Evaluates a loss: solves the model at the times of the data, then the formula."""

    def __init__(self, session: Any, precision: torch.dtype, seed: int) -> None:
        self.session, self.precision, self.seed, self.device = session, precision, seed, session.device
        self.expr = session.settings["loss"][0] if "loss" in session.settings else None
        self.feeding = Feeding(session)
        self.solves = self._needs_solution()
        self.samples = self._samples()
        self.alone = self._alone()
        self.training = False
        self.horizons: list[tuple[tree.Expr, Span] | None] = []
        """Of each phase, until when the training sees the data; without phases, that of the block."""
        self.repeats = 1  # runs that are like this one
        self.memory = BlockMemory(session.host.ev, session.others, session.scope, precision)

    def remembered(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps beside the parameters: the memory of the block and of its nets."""
        found = {f"state {n}": v for n, v in self.memory.values.items()}
        for name, module in self.session.nets.items():
            found |= {f"{name}.{k}": v for k, v in module.named_buffers()}
        return found

    def settle(self, step: int) -> None:
        """The end of a training step."""
        self.memory.settle()
        for module in self.session.nets.values():
            if isinstance(module, Part):
                module.settle()

    def _samples(self) -> int | None:
        table: Table | None = self.session.table
        if table is not None and table.samples is not None:
            return table.samples
        found: int | None = self.session.whole("samples")
        return found

    def _needs_solution(self) -> bool:
        """Whether some formula names a state or a derived quantity of the model."""
        names: set[str] = set()
        for model, _ in self.session.models.values():
            parts = parts_of(self.session.host.ev, model.decl)
            observed = ["nll", *(o.name for o in parts.observes)] if parts.observes else []
            names |= {*parts.states, *parts.derived, *observed}  # a part's name is among the derived
            names |= {"final", "steps", "stats"}
        formulas: list[Any] = [self.expr] if self.expr is not None else []
        formulas += self.session.others
        hidden = {
            t.id
            for s in self.session.others
            if isinstance(s, tree.Assign)
            for t in s.targets
            if isinstance(t, tree.Name)
        }
        return any(isinstance(n, tree.Name) and n.id in names - hidden for f in formulas for n in walk(f))

    def _alone(self) -> bool:
        """Whether the samples must be taken one by one: for memory, derivatives, instances of families."""
        memory = (tree.Declare, tree.Reset)
        if any(isinstance(s, memory) for s in self.session.others):
            return True
        formulas: list[Any] = [self.expr] if self.expr is not None else []
        formulas += self.session.others
        if any(isinstance(n, tree.Name) and n.id in ALONE for f in formulas for n in walk(f)):
            return True
        ev, scope = self.session.host.ev, self.session.host.module.scope
        laws = [s.law for s in self.session.others if isinstance(s, tree.Draw)]
        heads = [law.func if isinstance(law, tree.Call) else law for law in laws]
        return (
            any(isinstance(h, tree.Name) and isinstance(scope.find(h.id), ModelV) for h in heads)
            or ev is None
        )

    def __call__(self, step: int, batch: Batch) -> Any:
        assert self.expr is not None
        return self.evaluate(self.expr, step, batch)

    def of(self, expr: tree.Expr) -> Any:
        """The loss of one player."""
        return lambda step, batch: self.evaluate(expr, step, batch)

    def evaluate(self, expr: tree.Expr, step: int, batch: Batch) -> torch.Tensor:
        """A formula for the samples of a batch; the mean over them."""
        found: torch.Tensor = self.compute(lambda scope: self._formula(expr, scope), step, batch).mean()
        return found

    def compute(self, work: Callable[[Scope], Any], step: int, batch: Batch) -> Any:
        """What `work` makes of the names of one sample, for each sample of a batch, `[samples, ...]`."""
        host = self.session.host
        kept = host.run_seed, host.run_precision, host.run_device, host.run_grid
        host.differentiating += 1
        host.run_seed, host.run_precision, host.run_device = self._noise(step, batch), True, self.device
        host.run_grid = self.session.grid
        self._prepare(batch.training, step)
        try:
            table = self._batch(batch)
            moment = Moment(self, table, step, batch)
            if not self.has_samples(batch):
                return work(moment.scope(None))
            return self._each(lambda sample: work(moment.scope(sample)), moment)
        finally:
            host.differentiating -= 1
            host.run_seed, host.run_precision, host.run_device, host.run_grid = kept
            self._prepare(False, 0)

    def _each(self, formula: Callable[[Sample], Any], moment: Moment) -> Any:
        """A formula for all samples at once, or for one after the other where it must be."""
        if not self.alone:
            try:
                return self.at_once(formula, moment.count)
            except Unshared:
                self.alone = True
            except RuntimeError as error:
                if "vmap" not in str(error):
                    raise
                self.alone = True

        def one(sample: Sample) -> Any:
            assert isinstance(sample, One)
            self._prepare(moment.batch.training, moment.step, sample.k)
            return formula(sample)

        return one_by_one(one, moment.count)

    def at_once(self, formula: Callable[[Sample], Any], count: int) -> Any:
        """A formula for all samples at once."""
        host = self.session.host

        def every(sample: Any) -> Any:
            host.sample = sample
            return formula(sample)

        try:
            return for_all(every, count)
        finally:
            host.sample = None

    def _noise(self, step: int, batch: Batch) -> int:
        """The seed of the noises of a step: another one for each step of training, one in validation."""
        return (self.seed * MIX + step + 1) % 2**63 if batch.training else self.seed

    def _prepare(self, training: bool, step: int, sample: int = 0) -> None:
        """Models and nets learn whether this is a training step, and which draws are theirs."""
        self.training = training
        modules = [*(m for _, m in self.session.models.values()), *self.session.nets.values()]
        prepare(modules, training, Chance(self.seed, step, sample))

    def has_samples(self, batch: Batch) -> bool:
        """Whether formulas are of one of several samples."""
        return is_panel(self.source(batch)) or self.draws()

    def source(self, batch: Batch) -> Table | None:
        """The data that a batch is taken from."""
        table: Table | None = self.session.validation if batch.other else self.session.table
        return table

    def _batch(self, batch: Batch) -> Table | None:
        table = self.source(batch)
        if table is None:
            return None
        if table.samples is not None and (batch.index is not None or table.lazy):
            index = torch.arange(table.samples) if batch.index is None else batch.index
            table = table.take(index)
        return cut(self.session, table, self._horizon(batch), batch) if batch.training else table

    def _horizon(self, batch: Batch) -> tuple[tree.Expr, Span] | None:
        if self.horizons:
            return self.horizons[batch.phase]
        found: tuple[tree.Expr, Span] | None = self.session.settings.get("horizon")
        return found

    def draws(self) -> bool:
        """Whether the block draws."""
        return any(isinstance(s, tree.Draw) for s in self.session.others)

    def _formula(self, expr: tree.Expr, scope: Scope) -> torch.Tensor:
        ev = self.session.host.ev
        found = ev.value(ev.eval(expr, scope), expr.span)
        if isinstance(found, Unknown):
            raise fail("NDL521", "this loss has no value", expr.span)
        if found.type.rank:
            raise fail(
                "NDL521",
                f"a loss is a number, and this is {found.type}",
                expr.span,
                help="write `mean(…)` around it",
            )
        if self.training:
            self.memory.note(scope)
        result: torch.Tensor = found.ref
        return result
