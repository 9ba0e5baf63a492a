"""The loss of a training: the model's run at the data's times, then a formula that speaks of one sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ndl.compiler.check.applications import as_method, parts_of
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.statements import run as run_statement
from ndl.compiler.check.typing import resolve_type
from ndl.compiler.check.values import DistV, ModelV, Object, Unknown, Value, describe, is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import Tensor
from ndl.host.builder import lift
from ndl.host.families import drawn_instance
from ndl.host.memory import BlockMemory
from ndl.host.objects import Branch, DataObject, ModelObject, NetObject, SolutionObject, StepsObject
from ndl.host.sample import One, Sample, Unshared, batched, for_all, one_by_one
from ndl.runtime.batches import MIX, Batch
from ndl.runtime.chance import prepare
from ndl.runtime.data import Table
from ndl.runtime.draws import Chance, draw
from ndl.runtime.laws import Law
from ndl.runtime.schedules import anneal
from ndl.runtime.weights import Part

RUN_SETTINGS = ("span", "method", "save", "gradient", "max_steps", "backend")
ALONE = frozenset({"diff", "jac", "grad", "root"})
"""Functions whose derivatives are taken sample by sample."""


def likelihood(solution: Any, table: Table, sample: int | None) -> Value:
    """`nll`: the negative log-likelihood of the columns that the model measures, missing entries left out."""
    total = torch.zeros(())
    for info in solution.model.OBSERVES:
        if info.name in table:
            column, law = table[info.name], solution.law(info.name)
            if sample is not None:
                law = Law(law.name, tuple(a[sample] for a in law.arguments))
            missing = torch.isnan(column)
            density = law.log_density(torch.where(missing, law.arguments[0].detach(), column))
            total = total - torch.where(missing, torch.zeros_like(density), density).sum()
    return lift(total)


def branches(names: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a model by name: `leg`, of which a loss reads `leg.x`."""
    values = {n: v.ref for n, v in names.items() if isinstance(v, Value)}
    heads = {n.replace("[", ".").partition(".")[0] for n in values if "." in n}
    return {h: b for h in heads if (b := Branch.of(h, values, values.__getitem__)) is not None}


class Loss:
    """Evaluates a loss: solves the model at the times of the data, then the formula."""

    def __init__(self, session: Any, precision: torch.dtype, seed: int) -> None:
        self.session, self.precision, self.seed = session, precision, seed
        self.expr = session.settings["loss"][0] if "loss" in session.settings else None
        self.solves = self._needs_solution()
        self.samples = self._samples()
        self.alone = self._alone()
        self.training = False
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
            names |= {"final", "steps"}
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
        kept = host.run_seed, host.run_precision
        host.differentiating += 1
        host.run_seed, host.run_precision = self._noise(step, batch), True
        self._prepare(batch.training, step)
        try:
            table = self._batch(batch)
            moment = Moment(self, table, step, batch)
            if not (self._panel(table) or self._drawn()):
                return work(moment.scope(None))
            return self._each(lambda sample: work(moment.scope(sample)), moment)
        finally:
            host.differentiating -= 1
            host.run_seed, host.run_precision = kept
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

    def _batch(self, batch: Batch) -> Table | None:
        table: Table | None = self.session.table
        if table is None or batch.index is None or table.samples is None:
            return table
        return table.take(batch.index)

    @staticmethod
    def _panel(table: Table | None) -> bool:
        return table is not None and table.samples is not None

    def _drawn(self) -> bool:
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


class Moment:
    """One evaluation of a loss: the batch, what feeds the model, and its run."""

    def __init__(self, loss: Loss, table: Table | None, step: int, batch: Batch) -> None:
        self.loss, self.table, self.step, self.batch = loss, table, step, batch
        self.session, self.host = loss.session, loss.session.host
        self.inputs = {i.name for _, m in self.session.models.values() for i in m.INPUTS}
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

    def _feeding(self) -> list[tree.Stmt]:
        """The definitions and draws that are named like inputs, and those that they read, in order."""
        found: list[tree.Stmt] = []
        wanted = set(self.inputs)
        for stmt in reversed(self.session.others):
            if names_of(stmt) & wanted:
                found.append(stmt)
                wanted |= {n.id for n in walk(stmt) if isinstance(n, tree.Name)}
        return found[::-1]

    def _fed(self) -> dict[str, Any]:
        """Inputs by name, of a batch `[samples, ...]` or families of paths: columns, draws, definitions."""
        found: dict[str, Any] = {}
        panel = Loss._panel(self.table)
        if self.table is not None and panel:
            found = {n: self._column(n) for n in self.table if n in self.inputs}
        feeding = self._feeding()
        if not feeding:
            return found
        made: dict[str, Any] = {}

        def evaluate(sample: Sample | None) -> torch.Tensor:
            scope = self._scope(sample, None)
            for stmt in feeding:
                self._run(stmt, scope, sample)
            for name in self.inputs & scope.names.keys():
                made[name] = self.host.given(scope.names[name], self.session.block.span)
            return torch.zeros(())

        if panel or self.loss._drawn():
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
        return linear(times, known if values.ndim > 2 else known[..., 0], family=True)

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
            k: ev.eval(v[0], host._setting_scope(ev, ModelObject(instance, model), session.scope, k))
            for k, v in settings.items()
        }
        panel = Loss._panel(self.table)
        ensemble = self.count if panel or (self.fed and self.loss._drawn()) else None
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
                backend=host.word(found.get("backend"), "auto"),
                repeats=self.loss.repeats,
                **({"max_steps": int(host.number(found["max_steps"]))} if "max_steps" in found else {}),
            )

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
            self._run(stmt, scope, sample)
        return scope

    def _run(self, stmt: tree.Stmt, scope: Scope, sample: Sample | None) -> None:
        if isinstance(stmt, tree.Assign):
            run_statement(self.host.ev, stmt, scope)
        elif isinstance(stmt, tree.Draw):
            scope.names[stmt.name] = self._draw(stmt, scope, sample)

    def _names(self, solution: Any, sample: Sample | None) -> dict[str, Any]:
        """The model's parameters, nets and solved values by name."""
        names: dict[str, Any] = {}
        for model, instance in self.session.models.values():
            for p in instance.PARAMETERS:
                names[p.name] = lift(getattr(instance, p.attribute or p.name))
            for name, module in instance._modules.items():
                names[name] = NetObject(module)
            names.setdefault(model.decl.name, ModelObject(self.instance(instance), model))
        for name, module in self.session.nets.items():
            names[name] = NetObject(module)
        if solution is not None:
            shown = SolutionObject(solution, sample if solution.problem.ensemble else None)
            for name in solution.names() if solution.problem.save.kind != "end" else ():
                found = shown.path(name)
                names[name] = Value(found.type, found.ref)
            names["t"] = lift(solution.t.to(self.loss.precision))
            names["final"] = shown.attribute(self.host.ev, "final", 0, self.session.block.span)
            names["steps"] = StepsObject(solution, shown.sample)
        return {**names, **branches(names)}

    def _scope(self, sample: Sample | None, solution: Any) -> Scope:
        names = self._names(solution, sample)
        names |= {"step": self.step, "epoch": self.batch.epoch, "training": self.batch.training}
        names |= {"decay": Annealed(self.step, self.batch.total)}
        table = self.table
        if table is not None:
            names["data"] = DataObject(table, sample if Loss._panel(table) else None)
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

    def _draw(self, stmt: tree.Draw, scope: Scope, sample: Sample | None) -> Any:
        """A draw of the block: fresh in each step, or fixed for each of `samples = N`."""
        host, seed = self.host, self.loss.seed
        step = 0 if self.session.whole("samples") is not None else self.step
        law = host.ev.eval(stmt.law, scope)
        numbers = torch.arange(self.count) if self.batch.index is None else self.batch.index
        if isinstance(law, ModelV):
            if sample is not None and sample.shared():
                raise Unshared
            number = int(numbers[sample.k]) if isinstance(sample, One) else 0
            return drawn_instance(host, law, stmt.name, seed, number, step)
        if not isinstance(law, DistV):
            raise fail(
                "NDL328",
                f"`{stmt.name}` is drawn from a distribution or a family, not from {describe(law)}",
                stmt.law.span,
            )
        type_ = resolve_type(host.ev, stmt.type, self.session.scope) if stmt.type is not None else None
        shape = type_.extents if isinstance(type_, Tensor) else ()
        stream = int.from_bytes(hashlib.sha256(stmt.name.encode()).digest()[:4], "big")
        arguments = tuple(
            torch.where(a.mask, a.ref, torch.nan) if getattr(a, "mask", None) is not None else host.number(a)
            for a in law.args
        )
        name = law.law
        if name == "choice" and len(arguments) == 1 and isinstance(arguments[0], torch.Tensor):
            # one of the values that are there, so that steps of runs of different lengths can be drawn
            (values,) = arguments
            u = self._drawn("uniform", (), (), seed, stream, sample, step, numbers)
            many = (~torch.isnan(values)).sum(-1)
            place = (u * many).long().clamp(max=values.shape[-1] - 1)
            return lift(values.gather(-1, place[None])[0].to(self.loss.precision))
        value = self._drawn(name, shape, arguments, seed, stream, sample, step, numbers)
        return lift(value.to(self.loss.precision))

    def _drawn(
        self,
        law: str,
        shape: Any,
        arguments: Any,
        seed: int,
        stream: int,
        sample: Any,
        step: int,
        numbers: Any,
    ) -> torch.Tensor:
        """The number of a sample; its arguments may be the sample's own."""
        more: dict[str, Any] = {"seed": seed, "stream": stream, "step": step}
        if sample is None or not sample.shared():
            number = 0 if sample is None else int(numbers[sample.k])
            return draw(law, shape, *arguments, sample=number, **more)
        own = [a for a in arguments if batched(a)]

        def run(_: Any, *given: torch.Tensor) -> tuple[torch.Tensor]:
            rest = iter(given)
            filled = [next(rest) if batched_at else a for a, batched_at in zip(arguments, places)]
            wide = [a.reshape(*a.shape[:1], *(1,) * (len(shape) + 1 - a.ndim), *a.shape[1:]) if at else a
                    for a, at in zip(filled, places)]  # fmt: skip
            return (draw(law, shape, *wide, sample=numbers, **more),)

        places = [batched(a) for a in arguments]
        found: torch.Tensor = sample.whole(run, *own)[0]
        return found


class Annealed(Object):
    """`decay(a, b)` in a loss: a in the first step of training, b in the last, by equal ratios between."""

    kind = "schedule"

    def __init__(self, step: int, total: int) -> None:
        self.step, self.total = step, total

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Any) -> Any:
        ends = [ev.known(a) for a in args]
        if len(ends) != 2 or not all(is_number(v) for v in ends):
            return ev.error("NDL322", "`decay` takes the first and the last value: `decay(10, 1)`", span)
        return anneal(float(ends[0]), float(ends[1]), self.step, self.total)


def names_of(stmt: tree.Stmt) -> set[str]:
    """What a definition or a draw gives a name."""
    if isinstance(stmt, tree.Draw):
        return {stmt.name}
    targets = stmt.targets if isinstance(stmt, tree.Assign) else ()
    return {t.id for t in targets if isinstance(t, tree.Name)}
