"""A player at work: one loss, the parameters it moves, its optimiser and schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ndl.runtime.batches import Batch
from ndl.runtime.errors import DataError, RunError, SettingError, TrainFailure
from ndl.runtime.optimizers import OptimizerSpec, select
from ndl.runtime.schedules import Factor, Plateau
from ndl.runtime.train_settings import Loss, Player, TrainSettings
from torch import Tensor

# How much worse than the start a line search is told that a failed trial point is.
FAILED_TRIAL = 1e6


@dataclass
class Mover:
    """Moves `parameters` (leaves by name) to lower or raise `loss`."""

    player: Player
    loss: Loss
    parameters: dict[str, Tensor]
    spec: OptimizerSpec
    optimizer: torch.optim.Optimizer
    schedule: Factor | Plateau | None
    clip: float | None
    clip_value: float | None
    bases: list[float]

    def move(self, step: int, length: int, batch: Batch) -> tuple[float, dict[str, float], float]:
        """One step of the optimiser; the loss and its terms before it, and the learning rate.

        Optimisers with a line search evaluate the loss several times; only their first evaluation must
        succeed, a trial point that fails counts as a very bad one.
        """
        factor = 1.0 if self.schedule is None else self.schedule(step, length)
        for group, base in zip(self.optimizer.param_groups, self.bases):
            group["lr"] = base * factor
        first: list[tuple[float, dict[str, float]]] = []

        def closure() -> Tensor:
            try:
                value, terms = self._differentiate(batch)
            except (RunError, ArithmeticError):
                if not first:
                    raise
                for p in self.parameters.values():
                    p.grad = torch.zeros_like(p)
                start = -first[0][0] if self.player.maximize else first[0][0]
                return torch.tensor(start + FAILED_TRIAL * (1 + abs(start)))
            if not first:
                first.append((float(value), {n: float(t) for n, t in terms.items()}))
            return -value if self.player.maximize else value

        try:
            self.optimizer.step(closure)  # type: ignore[arg-type]  # all of them return tensors
        except (TrainFailure, SettingError, DataError):
            raise
        except RunError as error:
            raise TrainFailure(
                f"step {batch.step + 1} failed: {error.message}",
                step=batch.step + 1,
                term=self.player.name,
                help=error.help,
                notes=error.notes,
            ) from error
        self._project()
        loss, terms = first[0]
        return loss, terms, self.bases[0] * factor

    def _project(self) -> None:
        """Weights back within their bounds."""
        with torch.no_grad():
            for name, bound in (self.player.project or {}).items():
                if name in self.parameters:
                    self.parameters[name].clamp_(-bound, bound)

    def restore(self, state: dict[str, Any]) -> None:
        """The optimiser's state exactly as it was: torch would cast some scalars to the weights' type."""
        self.optimizer.load_state_dict(state)
        leaves = [p for group in self.optimizer.param_groups for p in group["params"]]
        for k, kept in state["state"].items():
            for name, value in kept.items():
                if isinstance(value, Tensor):
                    there = self.optimizer.state[leaves[k]][name].device
                    self.optimizer.state[leaves[k]][name] = value.clone().to(there)

    def _differentiate(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, with the gradients left on the parameters; refuses what is not finite."""
        with torch.enable_grad():
            value, terms = evaluate(self.loss, batch.step, batch)
        self._finite(value, terms, batch.step + 1)
        if not value.requires_grad:
            raise SettingError(
                f"the loss of `{self.player.name}` does not depend on any parameter that is fitted",
                help="name others in `fit`, or use the model's states in the loss",
            )
        names = list(self.parameters)
        signed = -value if self.player.maximize else value
        gradients = torch.autograd.grad(signed, [self.parameters[n] for n in names], allow_unused=True)
        known = {n: g for n, g in zip(names, gradients) if g is not None}
        if not known:
            raise SettingError(
                f"the loss of `{self.player.name}` does not depend on the parameters that it fits",
                help=f"these are {', '.join(names)}",
            )
        norm = torch.stack([torch.linalg.vector_norm(g).double() for g in known.values()]).norm()
        if not math.isfinite(float(norm)):
            self._blame(known, batch.step + 1)
        if self.clip_value is not None:
            known = {n: _limited(g, self.clip_value) for n, g in known.items()}
            norm = torch.stack([torch.linalg.vector_norm(g).double() for g in known.values()]).norm()
        scale = min(1.0, self.clip / (float(norm) + 1e-12)) if self.clip is not None else 1.0
        for name, p in self.parameters.items():
            g = known.get(name)
            p.grad = None if g is None else (g * scale if scale < 1.0 else g.detach().clone())
        return value.detach(), {n: t.detach() for n, t in terms.items()}

    def _finite(self, value: Tensor, terms: Mapping[str, Tensor], step: int) -> None:
        if math.isfinite(float(value.detach())):
            return
        bad = next((n for n, t in terms.items() if not math.isfinite(float(t.detach()))), None)
        named = bad or self.player.name
        shown = float((terms[bad] if bad else value).detach())
        raise TrainFailure(
            f"the {'loss' if bad is None and named == 'loss' else f'loss term `{named}`'} is {shown} in "
            f"step {step}",
            step=step,
            term=named,
            help="try a smaller learning rate, `clip`, or constraints that keep logarithms and roots defined",
        )

    def _blame(self, gradients: Mapping[str, Tensor], step: int) -> None:
        for name, g in gradients.items():
            if not bool(torch.isfinite(g).all()):
                raise TrainFailure(
                    f"the gradient of the loss `{self.player.name}` by `{name}` is not finite in step {step}",
                    step=step,
                    term=self.player.name,
                    help="the loss is finite: look for a root, a norm or a logarithm at its edge",
                )


def movers(settings: TrainSettings, parameters: Mapping[str, Tensor], loss: Loss) -> list[Mover]:
    """The players of some settings at their start; without players, one that lowers `loss`."""
    players = settings.players or (Player(),)
    found = []
    for player in players:
        spec = player.optimizer or settings.optimizer
        moved = select(player.fit if player.fit is not None else settings.fit, parameters)
        if not moved:
            raise SettingError(f"`{player.name}` has no parameters to fit")
        optimizer = spec.build(moved)
        clip = spec.clip if spec.clip is not None else settings.clip
        most = spec.clip_value if spec.clip_value is not None else settings.clip_value
        bases = [float(group["lr"]) for group in optimizer.param_groups]
        schedule = spec.schedule()
        found.append(Mover(player, player.loss or loss, moved, spec, optimizer, schedule, clip, most, bases))
    return found


def _limited(g: Tensor, most: float) -> Tensor:
    """A gradient whose components, real and imaginary parts, are at most `most` in size."""
    if g.is_complex():
        return torch.view_as_complex(torch.view_as_real(g).clamp(-most, most))
    return g.clamp(-most, most)


def evaluate(loss: Loss, step: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss's value, a scalar, and its terms; means are taken over what is left of a batch."""
    value = loss(step, batch)
    if isinstance(value, Tensor):
        return value.mean(), {}
    terms = {name: term.mean() for name, term in value.items()}
    if not terms:
        raise SettingError("the loss has no terms")
    total: Tensor = sum(terms.values(), torch.zeros(()))
    return total, terms
