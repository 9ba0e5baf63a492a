"""`train` blocks: what is trained, on what data, by which loss and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from ndl.compiler.check.applications import TRAIN_SETTINGS
from ndl.compiler.check.check_program import read_settings
from ndl.compiler.check.grids import GridChoice, grid_choice
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import EveryV, ListV, ModelV, TupleV, describe, is_number
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.host.counted import count_sets
from ndl.host.discovery import evolve, evolves, refuse_unsearched
from ndl.host.failures import diagnostic_of, setting_named
from ndl.host.fitted import parameters_of
from ndl.host.loss import Loss
from ndl.host.objects import ModelObject, NetObject
from ndl.host.repeated import repeats, run_repeated
from ndl.host.targets import device_of, make_targets, precision_of, read_data
from ndl.host.train_options import trainer_settings
from ndl.host.trained import TrainingObject, VariedObject
from ndl.host.varied import run_varied
from ndl.host.watched import metrics_of, observers_of
from ndl.runtime.data import Table
from ndl.runtime.errors import RunError
from ndl.runtime.training import Trainer


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


CPU = torch.device("cpu")


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
    declared: dict[str, Any] = field(default_factory=dict)
    """The nets by name as the file declares them."""
    data: Any = None
    table: Table | None = None
    validation: Table | None = None
    """Other data to validate on."""
    device: torch.device = CPU
    """Where the targets, the data and the runs of the loss are."""
    fold: tuple[int, ...] | None = None
    """Samples that are held out of this run."""
    varied: Mapping[str, Any] = field(default_factory=dict)
    """The varied names of a block with `vary`, in this training."""
    copies: bool = False
    """Whether trained models are copied before they are trained on."""

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

    @cached_property
    def grid(self) -> GridChoice | None:
        """Where fields stand, if the block says so."""
        if "grid" not in self.settings:
            return None
        found = grid_choice(self.host.ev, self.value("grid"), self.settings["grid"][0].span)
        return found if isinstance(found, GridChoice) else None

    @property
    def scope(self) -> Scope:
        """Settings see the file, the models' parameters and the data."""
        own = {"data": self.data} if self.data is not None else {}
        scope: Scope = self.host.module.scope.child({**self.varied, **own})
        return scope

    def setting_text(self, name: str) -> str | None:
        """A setting as it is written; None when it is not given."""
        if name not in self.settings:
            return None
        return " ".join(self.settings[name][0].span.text.split())

    def validation_given(self) -> bool:
        """Whether `validate` says what is held out, and not only how often."""
        value = self.value("validate")
        items = value.items if isinstance(value, TupleV | ListV) else (value,)
        return any(not isinstance(i, EveryV | None) for i in items)

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
) -> TrainingObject | VariedObject:
    """Run a `train` block to its end; `folder` makes the folder for checkpoints when the run starts."""
    from ndl.host.names import stmt_name
    from ndl.host.overrides import overridden

    settings, others = read_settings(host.ev, block.body, TRAIN_SETTINGS)
    settings = overridden(settings, stmt_name(block), host.overrides)
    session = Session(host, block, settings, others, replaced)
    try:
        if "vary" in settings:
            return run_varied(session, _run, stmt_name(block), folder, progress, resume)
        return _run(session, folder, progress, resume)
    except RunError as error:
        raise NDLError([diagnostic_of(error, _place(session, error.message))]) from error


def _place(session: Session, message: str) -> Span:
    """Where trouble of a run is shown: at the setting that it names first, else at the data."""
    named = setting_named(session.settings, message)
    if named is not None:
        return named
    for name in ("data", "loss"):
        if name in session.settings:
            return session.settings[name][1].to(session.settings[name][0].span)
    return session.block.span


def _run(session: Session, folder: Any, progress: str, resume: bool) -> TrainingObject:
    from ndl.host.formula_training import evolve_within, evolves_within

    alone = evolves(session)
    if alone or evolves_within(session):
        if repeats(session):
            raise fail("NDL533", "the search for a formula is not repeated", session.block.span,
                       help="name the `seed` of one search")  # fmt: skip
        return (evolve if alone else evolve_within)(session, folder, progress)
    if repeats(session):
        return run_repeated(session, single, folder, progress, resume)
    return single(session, folder, progress, resume)


def single(session: Session, folder: Any, progress: str, resume: bool) -> TrainingObject:
    """One run of a training."""
    seed = session.whole("seed") or 0
    precision, session.device = precision_of(session), device_of(session)
    read_data(session, precision)
    make_targets(session, seed, precision)
    refuse_unsearched(session)
    loss = Loss(session, precision, seed)
    count_sets(session, loss)
    parameters = parameters_of(session)
    where = None if folder is None else folder()
    chosen = trainer_settings(session, seed, parameters, where, progress, loss)
    loss.repeats = sum(part.settings.length(batches=1) for part in chosen.stretches())
    model = next(iter(session.models.values()))[1] if session.models else None
    trainer = Trainer(
        parameters,
        loss,
        chosen,
        samples=loss.samples,
        portion=None if session.table is None else session.table.portion,
        memory=loss.remembered(),
        model=model,
        after_step=loss.settle,
        metrics=metrics_of(session, loss),
        observers=observers_of(session, where),
    )
    result = trainer.run(resume=chosen.checkpoint.folder if resume else None)
    trained: Any = None
    if session.models:
        source, instance = next(iter(session.models.values()))
        trained = ModelObject(instance, source)
    elif session.nets:
        name, module = next(iter(session.nets.items()))
        trained = NetObject(module, net=session.declared.get(name))
    found = TrainingObject(result, trained)
    found.session, found.last = session, loss  # type: ignore[attr-defined]
    return found
