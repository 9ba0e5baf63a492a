"""A formula that is searched for inside its model's own training: `net F: (R, R) -> R = expression(…)` in the
model, `optimizer = evolution(…)` in its `train`.

A formula is judged by the loss of the block, over all data, after its constants and what else is fitted have
been fitted by gradient steps through the solver.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ndl.compiler.check.applications import TRAIN_SETTINGS, parts_of
from ndl.compiler.check.check_program import read_settings
from ndl.compiler.check.formulas import is_formula
from ndl.compiler.check.operators import read_net
from ndl.compiler.check.values import ModelV, NetV, WordV
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.syntax import tree
from ndl.host.discovery import DiscoveryObject, closure, objective, rounds_of, vocabulary
from ndl.host.fitted import parameters_of
from ndl.host.loss import Loss
from ndl.host.objects import ModelObject
from ndl.host.targets import device_of, make_targets, read_data
from ndl.runtime.batches import Batch
from ndl.runtime.errors import RunError
from ndl.runtime.evolution import Genome, Search
from ndl.runtime.failures import SolveFailure
from ndl.runtime.fitted_formulas import Trained
from ndl.runtime.formula_net import FormulaNet
from ndl.runtime.formulas import Array, C, constants
from ndl.runtime.history import History, TrainResult


def evolves_within(session: Any) -> bool:
    """Whether a `train` block of models searches for a formula in one of them."""
    own = [s.settings for s in session.others if isinstance(s, tree.Optimize)]
    players = [read_settings(session.host.ev, settings, TRAIN_SETTINGS)[0] for settings in own]
    values = [session.value("optimizer"), *(session.value("optimizer", None, p) for p in players)]
    return any(isinstance(v, WordV) and v.name == "evolution" for v in values)


def evolve_within(session: Any, folder: Any, shown: str) -> DiscoveryObject:
    """Run the search; deterministic by `seed`. The result's model has the formula in the place of the net."""
    span = session.block.span
    phases = [s for s in session.others if isinstance(s, tree.Phase)]
    if phases or "batch" in session.settings:
        what = "phases" if phases else "batches"
        raise fail("NDL457", f"the search for a formula has no {what}: it sees all data", span)
    seed = session.whole("seed") or 0
    session.device = device_of(session)
    read_data(session, torch.float64)
    make_targets(session, seed, torch.float64)
    name, net, module = formula_within(session)
    study = Study(session, module, seed)
    primitives, largest = vocabulary(net, span)
    search = Search(study.judge, module.arity, primitives, largest, study.options, seed, module.rows)
    if folder is not None:
        folder()
    record = rounds_of(session, [search], study.sign, 0.0, shown)
    found = search.chosen()
    study.settle(found.genome, found.constants)
    module.choose([found])
    module.fronts = [search.front()]
    result = TrainResult(torch.tensor(study.sign * found.loss), History.of(record), module, record.steps)
    made = DiscoveryObject(result, with_formula(session, name, module))
    made.session, made.last = session, study.loss  # type: ignore[attr-defined]
    return made


def formula_within(session: Any) -> tuple[str, NetV, FormulaNet]:
    """The one formula of the models that are trained: its name, the net as declared, and its module."""
    found = []
    for source, instance in session.models.values():
        for name, module in instance.nets().items():
            if isinstance(module, FormulaNet):
                found.append((name, source, module))
    if len(found) != 1:
        many = " and ".join(f"`{name}`" for name, _, _ in found)
        raise fail(
            "NDL457",
            f"one formula is searched for at a time, and there are {many}"
            if found
            else "`evolution` searches for a formula, and no net here is one",
            session.block.span,
            help="give one net several results: `net F: (R, R) -> R[2] = expression(…)`",
        )
    name, source, module = found[0]
    return name, declared(session, source, name), module


def declared(session: Any, source: ModelV, name: str) -> NetV:
    """The net of a model as it is declared, or the file's net that the application gives in its place."""
    ev = session.host.ev
    stmt = parts_of(ev, source.decl).nets.get(name)
    given = source.values.get(name)
    if stmt is not None and given is None:
        given = read_net(ev, stmt, source.module.scope)
    if not is_formula(given):
        raise fail(
            "NDL457",
            f"the formula `{name}` is no net of `{source.decl.name}` itself",
            session.block.span,
            help=f"declare it in the model: `net {name}: (R, R) -> R = expression(…)`",
        )
    assert isinstance(given, NetV)
    return given


class Study:
    """The loss of the block as a function of a genome, its constants and what else is fitted."""

    def __init__(self, session: Any, module: FormulaNet, seed: int) -> None:
        self.module = module
        self.expr, self.sign, self.options = objective(session)
        self.loss = Loss(session, torch.float64, seed)
        self.parameters = list(parameters_of(session).values())
        self.judge = Trained(self.value, self._others())
        start = (C,) * module.rows
        module.become(start, [torch.zeros((), dtype=torch.float64)] * module.rows)
        with torch.no_grad():  # a loss that has no value is an error here, and infinite later
            self.evaluate()
        plain, _ = self.judge.fit(start, np.zeros(module.rows), self.options.descent)
        self.judge.scale = plain if np.isfinite(plain) and plain > 0 else 1.0

    def _others(self) -> Array:
        flat = [p.detach().reshape(-1) for p in self.parameters]
        return torch.cat(flat).numpy().astype(float) if flat else np.zeros(0)

    def evaluate(self) -> torch.Tensor:
        value: torch.Tensor = self.sign * self.loss.evaluate(self.expr, 0, Batch(0, 1, 0, None))
        return value

    def settle(self, genome: Genome, c: Array) -> None:
        """Let the formula be this one, and what else is fitted be what is best for it."""
        self._place(genome, np.concatenate([c, self.judge.beside(genome)]))

    def _place(self, genome: Genome, z: Array) -> list[torch.Tensor]:
        at = sum(map(constants, genome))
        numbers = [torch.tensor(float(x), dtype=torch.float64, requires_grad=True) for x in z[:at]]
        self.module.become(genome, numbers)
        with torch.no_grad():
            for p in self.parameters:
                p.copy_(torch.from_numpy(z[at : at + p.numel()]).reshape(p.shape))
                at += p.numel()
        return [*numbers, *self.parameters]

    def value(self, genome: Genome, z: Array) -> tuple[float, Array]:
        """The loss and its gradient; infinite where the run fails."""
        leaves = self._place(genome, z)
        try:
            loss = self.evaluate()
            grads = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else ()
        except (RunError, NDLError) as error:
            if isinstance(error, SolveFailure) or isinstance(error.__cause__, SolveFailure):
                return float("inf"), np.zeros(len(z))
            raise
        flat = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads)]
        slope = torch.cat([g.detach().reshape(-1) for g in flat]).numpy() if flat else np.zeros(len(z))
        found = float(loss.detach())
        return (found, slope) if np.isfinite(found) else (float("inf"), np.zeros(len(z)))


def with_formula(session: Any, name: str, module: FormulaNet) -> ModelObject:
    """The model with the formula written in the place of the net, and what else was fitted."""
    source, instance = next(iter(session.models.values()))
    found = replace(source, values={**source.values, name: closure(session.host, module)})
    made = session.host.instance(found)
    made.load_state_dict(instance.state_dict(), strict=False)
    return ModelObject(made, found)
