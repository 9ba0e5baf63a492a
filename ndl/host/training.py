"""`train` blocks: settings to a trainer, the loss evaluated on the model's solved values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ndl.compiler.backends.torch.names import identifier
from ndl.compiler.check.applications import TRAIN_SETTINGS, parts_of
from ndl.compiler.check.check_program import read_settings
from ndl.compiler.check.parts import declarations
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.statements import run as run_statement
from ndl.compiler.check.values import (
    DistV,
    EveryV,
    ListV,
    ModelV,
    NetV,
    OperatorV,
    TupleV,
    Unknown,
    Value,
    WordV,
    describe,
    is_number,
)
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.host.builder import lift
from ndl.host.families import drawn_instance
from ndl.host.memory import BlockMemory
from ndl.host.objects import Branch, DataObject, ModelObject, NetObject, SolutionObject, TrainingObject
from ndl.runtime.batches import Batch
from ndl.runtime.chance import prepare
from ndl.runtime.data import Table
from ndl.runtime.draws import Chance
from ndl.runtime.errors import RunError
from ndl.runtime.laws import Law
from ndl.runtime.optimizers import OptimizerSpec
from ndl.runtime.schedules import SCHEDULES, ScheduleSpec
from ndl.runtime.train_settings import CheckpointPlan, Phase, Player, TrainSettings, ValidatePlan
from ndl.runtime.training import Trainer
from ndl.runtime.weights import Part


def block_of(host: Any, target: Any, span: Span) -> tree.Train:
    """The `train` block of a model (or net), or the block of a given name."""
    wanted = getattr(target, "decl", None) or getattr(target, "owner", None)
    for item in host.module.items:
        if isinstance(item, tree.Train):
            found = host.ev.eval(item.targets[0], host.module.scope)
            if (
                wanted is not None
                and (getattr(found, "decl", None) or getattr(found, "owner", None)) is wanted
            ):
                return item
    name = target.decl.name if isinstance(target, ModelV) else describe(target)
    raise fail("NDL517", f"there is no `train {name}:` in this file", span)


@dataclass
class Session:
    """One training run while it is set up and its loss evaluated."""

    host: Any
    block: tree.Train
    settings: dict[str, tuple[tree.Expr, Span]]
    others: list[tree.Stmt]
    replaced: Mapping[str, Any]
    models: dict[str, tuple[ModelV, Any]] = field(default_factory=dict)
    nets: dict[str, Any] = field(default_factory=dict)
    data: Any = None
    table: Table | None = None

    # ------------------------------------------------------------ settings

    def value(self, name: str, scope: Scope | None = None, settings: Any = None) -> Any:
        """A setting's value; None when it is not given."""
        if settings is None and name in self.replaced:
            return self.replaced[name]
        source = self.settings if settings is None else settings
        if name not in source:
            return None
        return self.host.ev.eval(source[name][0], scope or self.scope)

    def number(self, name: str, settings: Any = None) -> Any:
        found = self.value(name, None, settings)
        return None if found is None else self.host.number(found)

    @property
    def scope(self) -> Scope:
        """Settings see the file, the models' parameters and the data."""
        scope: Scope = self.host.module.scope.child({"data": self.data} if self.data is not None else {})
        return scope

    def whole(self, name: str, settings: Any = None) -> int | None:
        found = self.number(name, settings)
        if found is None:
            return None
        if not is_number(found) or float(found) != int(found):
            where = self.settings[name][0].span if name in self.settings else self.block.span
            raise fail("NDL518", f"`{name}` must be a whole number", where)
        return int(found)


def run_train(
    host: Any,
    block: tree.Train,
    replaced: Mapping[str, Any],
    *,
    folder: Any = None,
    progress: str = "silent",
    resume: bool = False,
) -> TrainingObject:
    """Run a `train` block to its end; `folder` makes the folder for checkpoints when the run starts."""
    from ndl.host.names import stmt_name
    from ndl.host.overrides import overridden

    settings, others = read_settings(host.ev, block.body, TRAIN_SETTINGS)
    settings = overridden(settings, stmt_name(block), host.overrides)
    session = Session(host, block, settings, others, replaced)
    found: TrainingObject = host.guarded(lambda: _run(session, folder, progress, resume), _place(session))
    return found


def _place(session: Session) -> Span:
    """Where trouble of a run without a better place is shown."""
    for name in ("data", "loss"):
        if name in session.settings:
            return session.settings[name][1].to(session.settings[name][0].span)
    return session.block.span


def _run(session: Session, folder: Any, progress: str, resume: bool) -> TrainingObject:
    from ndl.host.discovery import evolve, evolves

    if evolves(session):
        return evolve(session, folder, progress)
    seed = session.whole("seed") or 0
    precision = precision_of(session)
    _targets(session, seed, precision)
    _data(session, precision)
    parameters = _parameters(session)
    loss = Loss(session, precision, seed)
    where = None if folder is None else folder()
    trainer_settings = _settings(session, seed, parameters, where, progress, loss)
    model = next(iter(session.models.values()))[1] if session.models else None
    trainer = Trainer(
        parameters,
        loss,
        trainer_settings,
        samples=loss.samples,
        memory=loss.remembered(),
        model=model,
        after_step=loss.settle,
    )
    result = trainer.run(resume=trainer_settings.checkpoint.folder if resume else None)
    trained: Any = None
    if session.models:
        source, instance = next(iter(session.models.values()))
        trained = ModelObject(instance, source)
    elif session.nets:
        trained = NetObject(next(iter(session.nets.values())))
    found = TrainingObject(result, trained)
    found.session, found.last = session, loss  # type: ignore[attr-defined]
    return found


def precision_of(session: Session) -> torch.dtype:
    """float64, or float32 for a model with nets; the setting decides."""
    from ndl.host.host import PRECISIONS

    word = session.value("precision")
    if word is not None:
        return PRECISIONS[session.host.word(word, "float64")]
    for target in session.block.targets:
        found = session.host.ev.eval(target, session.host.module.scope)
        if isinstance(found, (NetV, OperatorV)):
            return torch.float32
        if isinstance(found, ModelV) and any(p.nets for p in declarations(session.host.ev, found)):
            return torch.float32
    return torch.float64


def _targets(session: Session, seed: int, precision: torch.dtype) -> None:
    """The models and nets that are trained, as instances of their own."""
    host = session.host
    for written in session.block.targets:
        target = host.ev.eval(written, host.module.scope)
        if isinstance(target, ModelV):
            values = {"seed": seed, **target.values}
            fresh = replace(target, values=values)
            instance = host.instance(fresh)
            instance = instance.to(precision) if precision != torch.float64 else instance
            session.models[target.decl.name] = (fresh, instance)
        elif isinstance(target, ModelObject):
            session.models[target.source.decl.name] = (target.source, target.instance)
        elif isinstance(target, NetV):
            session.nets[target.name] = host.trained_net(target, seed, precision, written.span)
        else:
            raise fail("NDL508", f"`train` wants models or nets, not {describe(target)}", written.span)


def _data(session: Session, precision: torch.dtype) -> None:
    found = session.value("data")
    if found is None:
        return
    if isinstance(found, DataObject):
        session.table = found.table.to(dtype=precision)
        session.data = DataObject(session.table)
    elif isinstance(found, SolutionObject):
        session.table = table_of(found.solution).to(dtype=precision)
        session.data = DataObject(session.table)
    else:
        raise fail(
            "NDL519",
            f"`data` is a table or a solution, not {describe(found)}",
            session.settings["data"][0].span,
        )


def table_of(solution: Any) -> Table:
    """A solution's saved values as data."""
    columns = {n: solution.get(n).values.detach() for n in solution.names()}
    return Table(columns, solution.t.to(torch.float64), bool(solution.problem.ensemble), solution.model.NAME)


# ---------------------------------------------------------------- what is fitted


def _parameters(session: Session) -> dict[str, torch.Tensor]:
    """Every weight by its dotted name; several targets put their name in front."""
    several = len(session.models) + len(session.nets) > 1
    found: dict[str, torch.Tensor] = {}
    fit = _fit_words(session)
    for name, (_, instance) in session.models.items():
        if "initial states" in fit:
            instance.fit_initial()
        for key, p in instance.named_parameters():
            if p.requires_grad:
                found[f"{name}.{key}" if several else key] = p
    for name, module in session.nets.items():
        for key, p in module.named_parameters():
            found[f"{name}.{key}" if several else key] = p
    wanted = select(session, session.settings.get("fit"), found)
    return {k: v for k, v in found.items() if wanted is None or k in wanted}


def _fit_words(session: Session) -> set[str]:
    if "fit" not in session.settings:
        return set()
    from ndl.compiler.syntax.walk import walk

    return {n.name for n in walk(session.settings["fit"][0]) if isinstance(n, tree.Words)}


def select(session: Session, setting: Any, known: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names that a `fit` or `wrt` set means; None: all."""
    if setting is None:
        return None
    expr = setting[0] if isinstance(setting, tuple) else setting
    return _selected(expr, tuple(known))


def _selected(e: tree.Expr, known: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(e, (tree.TupleExpr, tree.ListExpr)):
        return tuple(dict.fromkeys(n for item in e.items for n in _selected(item, known)))
    if isinstance(e, tree.Words):
        starts = tuple(n for n in known if is_initial(n))
        return starts if e.name == "initial states" else known
    if isinstance(e, tree.Except):
        left = _selected(e.value, known)
        out = {n for x in e.excluded for n in _selected(x, known)}
        return tuple(n for n in left if n not in out)
    dotted = "".join(e.span.text.split())
    joined = identifier(dotted)  # the weights of a part are attributes of its model
    found = tuple(
        n for n in known if n == dotted or n.startswith(dotted + ".") or bare(n) in (dotted, joined)
    )
    if not found:
        from ndl.compiler.diagnostics import did_you_mean

        raise fail(
            "NDL520",
            f"nothing that can be fitted is called `{dotted}`",
            e.span,
            help=did_you_mean(dotted, [bare(n) for n in known]),
        )
    return found


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


def bare(name: str) -> str:
    """The user's name of a stored parameter: `raw_alpha` is `alpha`, `raw_initial_prey` `prey`."""
    head, _, last = name.rpartition(".")
    for prefix in ("raw_initial_", "initial_", "raw_"):
        if last.startswith(prefix):
            last = last[len(prefix) :]
            break
    return f"{head}.{last}" if head else last


def is_initial(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last.startswith(("initial_", "raw_initial_"))


# ---------------------------------------------------------------- the loss


class Loss:
    """Evaluates a loss: solves the model at the times of the data, then the formula."""

    def __init__(self, session: Session, precision: torch.dtype, seed: int) -> None:
        self.session, self.precision, self.seed = session, precision, seed
        self.expr = session.settings["loss"][0] if "loss" in session.settings else None
        self.solves = self._needs_solution()
        self.samples = self._samples()
        self.training = False
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
        table = self.session.table
        if table is not None and table.samples is not None:
            return table.samples
        return self.session.whole("samples")

    def _needs_solution(self) -> bool:
        """Whether some formula names a state or a derived quantity of the model."""
        from ndl.compiler.syntax.walk import walk

        names: set[str] = set()
        for model, _ in self.session.models.values():
            parts = parts_of(self.session.host.ev, model.decl)
            observed = ["nll", *(o.name for o in parts.observes)] if parts.observes else []
            names |= {*parts.states, *parts.derived, *observed}  # a part's name is among the derived
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

    def __call__(self, step: int, batch: Batch) -> Any:
        assert self.expr is not None
        return self.evaluate(self.expr, step, batch)

    def of(self, expr: tree.Expr) -> Any:
        """The loss of one player."""
        return lambda step, batch: self.evaluate(expr, step, batch)

    def evaluate(self, expr: tree.Expr, step: int, batch: Batch) -> torch.Tensor:
        """A formula for the samples of a batch; the mean over them."""
        host = self.session.host
        host.differentiating += 1
        self._prepare(batch.training, step)
        try:
            table = self._batch(batch)
            panel = self._panel(table)
            solution = self._solve(table, panel, step) if self.solves else None
            if panel or self._drawn():
                return self._per_sample(expr, table, solution, step, batch)
            return self._formula(expr, self._scope(table, solution, step, batch, {}))
        finally:
            host.differentiating -= 1
            self._prepare(False, 0)

    def _prepare(self, training: bool, step: int, sample: int = 0) -> None:
        """Models and nets learn whether this is a training step, and which draws are theirs."""
        self.training = training
        modules = [*(m for _, m in self.session.models.values()), *self.session.nets.values()]
        prepare(modules, training, Chance(self.seed, step, sample))

    def _batch(self, batch: Batch) -> Table | None:
        table = self.session.table
        if table is None or batch.index is None or table.samples is None:
            return table
        return table.take(batch.index)

    @staticmethod
    def _panel(table: Table | None) -> bool:
        return table is not None and table.samples is not None

    def _drawn(self) -> bool:
        return any(isinstance(s, tree.Draw) for s in self.session.others)

    def _solve(self, table: Table | None, panel: bool, step: int) -> Any:
        """The first model at the data's times; columns named like inputs feed it."""
        from ndl.runtime.solve import solve

        session, host = self.session, self.session.host
        model, instance = next(iter(session.models.values()))
        settings = {
            k: v
            for k, v in session.settings.items()
            if k in ("span", "method", "save", "gradient", "max_steps", "backend")
        }
        ev = host.ev
        found = {
            k: ev.eval(v[0], host._setting_scope(ev, ModelObject(instance, model), session.scope, k))
            for k, v in settings.items()
        }
        times = None if table is None else table.time
        if "span" in found:
            span = host.span(found["span"], model, session.block.span)
        elif times is not None:
            span = (float(times[0]), float(times[-1]))
        else:
            span = host.span(None, model, session.block.span)
        save = host.saved(found.get("save")) if "save" in found else times if times is not None else "steps"
        ensemble = None
        if table is not None and panel:
            ensemble = table.rows if table.time is None else int(next(iter(table.columns.values())).shape[0])
            inputs = {i.name for i in instance.INPUTS}
            fed = {n: table[n] for n in table if n in inputs}
            instance = instance.bind(**fed) if fed else instance
        instance = host.draws(instance, ensemble, self.seed, step)
        from ndl.compiler.check.applications import as_method
        from ndl.host.failures import explained

        method = as_method(ev, found["method"], settings["method"][0].span) if "method" in found else None
        with explained(host, instance, model, session.block.span):
            return solve(
                instance,
                span=span,
                method=host.method(ev, model, method, found, session.block.span),
                save=save,
                ensemble=ensemble,
                seed=self.seed,
                gradient=host.gradient_mode(found.get("gradient")),
                precision=self.precision,
                backend=host.word(found.get("backend"), "auto"),
            )

    def _names(self, solution: Any, sample: int | None = None) -> dict[str, Any]:
        """The model's solved values and parameters by name."""
        names: dict[str, Any] = {}
        for model, instance in self.session.models.values():
            for p in instance.PARAMETERS:
                names[p.name] = lift(getattr(instance, p.attribute or p.name))
            for name, module in instance._modules.items():
                names[name] = NetObject(module)
            names.setdefault(model.decl.name, ModelObject(instance, model))
        for name, module in self.session.nets.items():
            names[name] = NetObject(module)
        if solution is not None:
            for name in solution.names():
                x = solution.get(name).values
                names[name] = lift(x if sample is None else x[sample])
            names["t"] = lift(solution.t.to(self.precision))
        return {**names, **branches(names)}

    def _scope(
        self,
        table: Any,
        solution: Any,
        step: int,
        batch: Batch,
        draws: Mapping[str, Any],
        sample: int | None = None,
    ) -> Scope:
        outer = self.session.host.module.scope
        names = self._names(solution, sample)
        names |= {"step": step, "epoch": batch.epoch, "training": batch.training}
        if table is not None:
            shown = (
                table
                if sample is None
                else Table({k: v[sample] for k, v in table.columns.items()}, table.time, False, table.source)
            )
            names["data"] = DataObject(shown)
            if "t" not in names and table.time is not None:
                names["t"] = lift(table.time.to(self.precision))
            if solution is not None and solution.model.OBSERVES:
                names["nll"] = likelihood(solution, shown, sample)
        names |= {**self.memory.names(), **draws}
        primed = {k: v for k, v in names.items() if k.endswith("'")}

        def lazy(name: str, primes: int) -> Any:
            return primed.get(name + "'" * primes)

        scope = Scope(outer, {k: v for k, v in names.items() if not k.endswith("'")}, lazy=lazy)
        for stmt in self.session.others:
            if isinstance(stmt, tree.Assign):
                run_statement(self.session.host.ev, stmt, scope)
        return scope

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

    def _per_sample(
        self, expr: tree.Expr, table: Any, solution: Any, step: int, batch: Batch
    ) -> torch.Tensor:
        """The mean over samples of a loss that speaks of one."""
        count = self._count(table, batch)
        losses = []
        for k in range(count):
            draws = self._draws(step, k if batch.index is None else int(batch.index[k]))
            sample = k if self._panel(table) else None
            self._prepare(batch.training, step, k)
            losses.append(self._formula(expr, self._scope(table, solution, step, batch, draws, sample)))
        return torch.stack(losses).mean()

    def _count(self, table: Any, batch: Batch) -> int:
        if self._panel(table):
            return int(next(iter(table.columns.values())).shape[0])
        if batch.index is not None:
            return len(batch.index)
        return self.session.whole("batch") or 1

    def _draws(self, step: int, sample: int) -> dict[str, Any]:
        """Draws of the block: fresh in each step, or fixed for each of `samples = N`."""
        import hashlib

        from ndl.runtime.draws import draw

        host = self.session.host
        fixed = self.session.whole("samples") is not None
        found: dict[str, Any] = {}
        for stmt in self.session.others:
            if not isinstance(stmt, tree.Draw):
                continue
            law = host.ev.eval(stmt.law, self.session.scope)
            if isinstance(law, ModelV):
                found[stmt.name] = drawn_instance(
                    host, law, stmt.name, self.seed, sample, 0 if fixed else step
                )
                continue
            if not isinstance(law, DistV):
                raise fail(
                    "NDL328",
                    f"`{stmt.name}` is drawn from a distribution or a family, not from {describe(law)}",
                    stmt.law.span,
                )
            from ndl.compiler.check.typing import resolve_type
            from ndl.compiler.types import Tensor

            type_ = resolve_type(host.ev, stmt.type, self.session.scope) if stmt.type is not None else None
            shape = type_.extents if isinstance(type_, Tensor) else ()
            stream = int.from_bytes(hashlib.sha256(stmt.name.encode()).digest()[:4], "big")
            arguments = tuple(host.number(a) for a in law.args)
            x = draw(
                law.law,
                shape,
                *arguments,
                seed=self.seed,
                stream=stream,
                sample=sample,
                step=0 if fixed else step,
            )
            found[stmt.name] = lift(x.to(self.precision))
        return found


# ---------------------------------------------------------------- settings of the trainer


def _settings(
    session: Session, seed: int, parameters: Mapping[str, Any], folder: Any, progress: str, loss: Loss
) -> TrainSettings:
    batch = session.whole("batch") if session.table is None or session.table.samples is not None else None
    if session.table is None and loss.samples is None:
        batch = None
    return TrainSettings(
        steps=session.whole("steps"),
        epochs=session.whole("epochs"),
        optimizer=optimizer_of(session, session.value("optimizer"), session.value("schedule")),
        batch=batch,
        clip=session.number("clip"),
        validate=_validate(session),
        players=_players(session, session.others, parameters, loss),
        phases=_phases(session, parameters, loss),
        checkpoint=_checkpoint(session, folder),
        seed=seed,
        precision=str(loss.precision).removeprefix("torch."),
        device=session.host.word(session.value("device"), "cpu"),
        progress=progress,
    )


def _checkpoint(session: Session, folder: Any) -> CheckpointPlan:
    found = session.value("checkpoint")
    every = None
    if isinstance(found, EveryV):
        every = int(session.host.number(found.value))
    elif is_number(found):
        every = int(found)
    return CheckpointPlan(None if folder is None else folder / "checkpoints", every)


def _validate(session: Session) -> ValidatePlan | None:
    found = session.number("validate")
    return None if found is None else ValidatePlan(float(found))


def optimizer_of(session: Session, value: Any, schedule: Any = None) -> OptimizerSpec:
    """`adam(lr=0.01, schedule=cosine(1e-5))`."""
    if value is None:
        return (
            OptimizerSpec("adam", {"lr": 0.01})
            if schedule is None
            else OptimizerSpec("adam", {"lr": 0.01, "schedule": schedule_of(session, schedule)})
        )
    if not isinstance(value, WordV):
        raise fail("NDL511", f"an optimiser is needed here, not {describe(value)}", session.block.span)
    options = {}
    for key, option in value.options.items():
        options[key] = schedule_of(session, option) if isinstance(option, WordV) else plain(session, option)
    if value.args:
        options.setdefault("lr", plain(session, value.args[0]))
    if schedule is not None:
        options["schedule"] = schedule_of(session, schedule)
    return OptimizerSpec(value.name, options)


def plain(session: Session, value: Any) -> Any:
    if isinstance(value, (ListV, TupleV)):
        return tuple(plain(session, v) for v in value.items)
    return session.host.number(value)


def schedule_of(session: Session, value: Any) -> Any:
    if not isinstance(value, WordV):
        return plain(session, value)
    name = value.name if value.name in SCHEDULES else value.name.removesuffix("_decay")
    args = [schedule_of(session, a) for a in value.args]
    return ScheduleSpec.of(name, *args, **{k: schedule_of(session, v) for k, v in value.options.items()})


def _players(
    session: Session, stmts: list[tree.Stmt], parameters: Mapping[str, Any], loss: Loss
) -> tuple[Player, ...]:
    """`minimize L wrt SET: settings`, in order."""
    found = []
    for stmt in stmts:
        if not isinstance(stmt, tree.Optimize):
            continue
        settings, _ = read_settings(session.host.ev, stmt.settings, TRAIN_SETTINGS)
        every = session.value("every", None, settings)
        optimizer = session.value("optimizer", None, settings)
        found.append(
            Player(
                name=" ".join(stmt.wrt.span.text.split()) if stmt.wrt is not None else "all",
                loss=loss.of(stmt.value),
                maximize=stmt.sense == "maximize",
                fit=select(session, stmt.wrt, parameters),
                optimizer=None if optimizer is None else optimizer_of(session, optimizer),
                every=1 if every is None else int(session.host.number(every)),
            )
        )
    return tuple(found)


def _phases(session: Session, parameters: Mapping[str, Any], loss: Loss) -> tuple[Phase, ...]:
    """`phase NAME: settings`; what a phase does not say, the block says."""
    found = []
    for stmt in session.others:
        if not isinstance(stmt, tree.Phase):
            continue
        settings, others = read_settings(session.host.ev, stmt.settings, TRAIN_SETTINGS)
        merged = {**session.settings, **settings}
        optimizer = session.value("optimizer", None, merged)
        schedule = session.value("schedule", None, merged)
        own = loss.of(settings["loss"][0]) if "loss" in settings else None
        players = _players(session, others, parameters, loss)
        fit = select(session, settings.get("fit"), parameters)
        if own is not None and not players:
            players = (Player(name="loss", loss=own, fit=fit),)
        steps = session.whole("steps", merged)
        found.append(
            Phase(
                stmt.name,
                TrainSettings(
                    steps=steps,
                    epochs=None if steps is not None else session.whole("epochs", merged),
                    optimizer=optimizer_of(session, optimizer, schedule),
                    fit=fit,
                    clip=session.number("clip", merged),
                    players=players,
                ),
            )
        )
    return tuple(found)


__all__ = ["NDLError", "RunError", "Session", "Value", "block_of", "run_train"]
