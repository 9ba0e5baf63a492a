"""The settings of a `train` block for the trainer: optimisers, players, phases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndl.compiler.check.applications import TRAIN_SETTINGS
from ndl.compiler.check.check_program import read_settings
from ndl.compiler.check.values import EveryV, ListV, TupleV, WordV, describe, is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree
from ndl.host.fitted import select
from ndl.host.projected import projection
from ndl.host.watched import average_plan, measure_every, validate_plan
from ndl.runtime.optimizers import OptimizerSpec
from ndl.runtime.schedules import SCHEDULES, ScheduleSpec
from ndl.runtime.train_settings import CheckpointPlan, Phase, Player, TrainSettings, ValidatePlan


def trainer_settings(
    session: Any, seed: int, parameters: Mapping[str, Any], folder: Any, progress: str, loss: Any
) -> TrainSettings:
    validate = validate_plan(session, session.fold)
    return TrainSettings(
        steps=session.whole("steps"),
        epochs=session.whole("epochs"),
        optimizer=optimizer_of(session, session.value("optimizer"), session.value("schedule")),
        batch=_batch(session, loss),
        clip=session.number("clip"),
        clip_value=session.number("clip_value"),
        average=average_plan(session),
        validate=validate,
        measure_every=measure_every(session),
        players=_players(session, session.others, parameters, loss) or _alone(session, parameters),
        phases=_phases(session, parameters, loss, validate),
        checkpoint=_checkpoint(session, folder),
        seed=seed,
        precision=str(loss.precision).removeprefix("torch."),
        progress=progress,
    )


def _batch(session: Any, loss: Any, settings: Any = None) -> int | None:
    """Samples of a step; None where the data has none to choose from."""
    table = session.table
    if loss.samples is None if table is None else table.samples is None:
        return None
    found: int | None = session.whole("batch", settings)
    return found


def _checkpoint(session: Any, folder: Any) -> CheckpointPlan:
    found = session.value("checkpoint")
    every = None
    if isinstance(found, EveryV):
        every = int(session.host.number(found.value))
    elif is_number(found):
        every = int(found)
    return CheckpointPlan(None if folder is None else folder / "checkpoints", every)


def optimizer_of(session: Any, value: Any, schedule: Any = None) -> OptimizerSpec:
    """`adam(lr=0.01, schedule=cosine(1e-5))`."""
    if value is None:
        return (
            OptimizerSpec("adam", {"lr": 0.01})
            if schedule is None
            else OptimizerSpec("adam", {"lr": 0.01, "schedule": schedule_of(session, schedule)})
        )
    if not isinstance(value, WordV):
        where = (
            session.settings["optimizer"][0].span if "optimizer" in session.settings else session.block.span
        )
        raise fail("NDL511", f"an optimiser is needed here, not {describe(value)}", where)
    options = {}
    for key, option in value.options.items():
        options[key] = schedule_of(session, option) if isinstance(option, WordV) else plain(session, option)
    if value.args:
        options.setdefault("lr", plain(session, value.args[0]))
    if schedule is not None:
        options["schedule"] = schedule_of(session, schedule)
    return OptimizerSpec(value.name, options)


def plain(session: Any, value: Any) -> Any:
    if isinstance(value, (ListV, TupleV)):
        return tuple(plain(session, v) for v in value.items)
    return session.host.number(value)


def schedule_of(session: Any, value: Any) -> Any:
    if not isinstance(value, WordV):
        return plain(session, value)
    name = value.name if value.name in SCHEDULES else value.name.removesuffix("_decay")
    args = [schedule_of(session, a) for a in value.args]
    return ScheduleSpec.of(name, *args, **{k: schedule_of(session, v) for k, v in value.options.items()})


def _alone(session: Any, parameters: Mapping[str, Any]) -> tuple[Player, ...]:
    """The one player of a loss, where its weights are projected."""
    bounds = projection(session, session.settings, None, parameters)
    return () if bounds is None else (Player(project=bounds),)


def _players(
    session: Any, stmts: list[tree.Stmt], parameters: Mapping[str, Any], loss: Any
) -> tuple[Player, ...]:
    """`minimize L wrt SET: settings`, in order."""
    found = []
    for stmt in stmts:
        if not isinstance(stmt, tree.Optimize):
            continue
        settings, _ = read_settings(session.host.ev, stmt.settings, TRAIN_SETTINGS)
        every = session.value("every", None, settings)
        optimizer = session.value("optimizer", None, settings)
        fit = select(session, stmt.wrt, parameters)
        found.append(
            Player(
                name=" ".join(stmt.wrt.span.text.split()) if stmt.wrt is not None else "all",
                loss=loss.of(stmt.value),
                maximize=stmt.sense == "maximize",
                fit=fit,
                project=projection(session, settings, fit, parameters),
                optimizer=None if optimizer is None else optimizer_of(session, optimizer),
                every=1 if every is None else int(session.host.number(every)),
            )
        )
    return tuple(found)


def _phases(
    session: Any, parameters: Mapping[str, Any], loss: Any, validate: ValidatePlan | None
) -> tuple[Phase, ...]:
    """`phase NAME: settings`; what a phase does not say, the block says."""
    found = []
    for stmt in session.others:
        if not isinstance(stmt, tree.Phase):
            continue
        settings, others = read_settings(session.host.ev, stmt.settings, TRAIN_SETTINGS)
        merged = {**session.settings, **settings}
        loss.horizons.append(merged.get("horizon"))
        optimizer = session.value("optimizer", None, merged)
        schedule = session.value("schedule", None, merged)
        own = loss.of(settings["loss"][0]) if "loss" in settings else None
        players = _players(session, others, parameters, loss)
        fit = select(session, settings.get("fit"), parameters)
        bounds = projection(session, settings, fit, parameters)
        if (own is not None or bounds is not None) and not players:
            players = (Player(name="loss", loss=own, fit=fit, project=bounds),)
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
                    clip_value=session.number("clip_value", merged),
                    batch=_batch(session, loss, merged),
                    validate=validate,
                    measure_every=measure_every(session),
                    players=players,
                ),
            )
        )
    return tuple(found)
