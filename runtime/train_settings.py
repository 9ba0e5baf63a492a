"""What a training run is asked to do: settings, players, phases. Plain data; everything but a player's
loss can be written as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ndl.runtime.averages import AveragePlan
from ndl.runtime.batches import Batch
from ndl.runtime.errors import SettingError
from ndl.runtime.optimizers import OptimizerSpec
from ndl.runtime.schedules import ScheduleSpec
from torch import Tensor

LossValue = Tensor | Mapping[str, Tensor]
Loss = Callable[[int, Batch], LossValue]

# What may change between a run and its continuation without making it another run.
FREE = frozenset({"steps", "epochs", "checkpoint", "progress"})


@dataclass(frozen=True)
class Player:
    """One of several that move in turn: lowers (or raises) `loss` by moving the parameters `fit`.

    Without `loss`, the trainer's; without `optimizer`, the settings'. It moves in every `every`-th step,
    after which the entries of the parameters in `project` are kept within plus and minus their bounds.
    """

    name: str = "loss"
    loss: Loss | None = None
    maximize: bool = False
    fit: tuple[str, ...] | None = None
    optimizer: OptimizerSpec | None = None
    every: int = 1
    project: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise SettingError(f"`every` of the player `{self.name}` is {self.every}; it is at least 1")


@dataclass(frozen=True)
class CheckpointPlan:
    """Where checkpoints go, and how often: after `every` steps, or when `seconds` have passed."""

    folder: Path | None = None
    every: int | None = None
    seconds: float = 30.0
    keep: int = 2

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise SettingError(f"`checkpoint` every {self.every} steps; it is at least 1")


@dataclass(frozen=True)
class ValidatePlan:
    """What is held out, and after how many steps (None: each epoch) it is looked at.

    `fraction` is a share of the samples, `held` lists them, `other` are samples of other data: `other` of
    them, or 0 for a single one. The parameters that were best are kept: by the loss or by the metric
    `monitor`. Training stops after `patience` looks that were not better by more than `least`.
    """

    fraction: float | None = None
    every: int | None = None
    keep_best: bool = True
    held: tuple[int, ...] | None = None
    other: int | None = None
    patience: int | None = None
    monitor: str | None = None
    least: float = 0.0

    def __post_init__(self) -> None:
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise SettingError(f"`validate` holds out the share {self.fraction}; it is between 0 and 1")
        if self.every is not None and self.every < 1:
            raise SettingError(f"`validate` every {self.every} steps; it is at least 1")
        if self.patience is not None and self.patience < 1:
            raise SettingError(
                f"`patience` is {self.patience}; it is at least 1",
                code="NDL532",
                help="it counts looks at what is held out that brought nothing better",
            )


@dataclass(frozen=True)
class Phase:
    """A stretch of training with settings of its own; of these, `phases`, `checkpoint`, `seed`,
    `precision` and `progress` are not read."""

    name: str
    settings: TrainSettings


@dataclass(frozen=True)
class TrainSettings:
    """The resolved settings of `train`. Give `steps` or `epochs`; `fit` None is every parameter.

    `clip` is the largest norm of a player's gradient, `clip_value` the largest of its components (cut first).
    Without `validate`, metrics are taken every `measure_every` steps (None: each epoch). The final parameters
    are their `average`, where there is one. Training stops as diverged when |loss| exceeds
    `diverged` * (1 + |first loss|).
    """

    steps: int | None = None
    epochs: int | None = None
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    batch: int | None = None
    fit: tuple[str, ...] | None = None
    clip: float | None = None
    clip_value: float | None = None
    average: AveragePlan | None = None
    validate: ValidatePlan | None = None
    measure_every: int | None = None
    players: tuple[Player, ...] = ()
    phases: tuple[Phase, ...] = ()
    checkpoint: CheckpointPlan = field(default_factory=CheckpointPlan)
    seed: int = 0
    diverged: float = 1e8
    precision: str = "float64"
    progress: str = "auto"  # auto, rich, plain, silent

    def __post_init__(self) -> None:
        for name in ("steps", "epochs", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingError(f"`{name}` is {value}; it is at least 1")
        for name in ("clip", "clip_value"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingError(
                    f"`{name}` is {value:g}; it is greater than 0",
                    code="NDL534",
                    help=f"leave `{name}` out to cut nothing",
                )
        if self.steps is not None and self.epochs is not None:
            raise SettingError("`steps` and `epochs` are both given", help="give one of them")

    def length(self, batches: int) -> int:
        """Steps of this stretch when an epoch has `batches` steps; 1000 if nothing is said."""
        if self.steps is not None:
            return self.steps
        return 1000 if self.epochs is None else self.epochs * batches

    def stretches(self) -> tuple[Phase, ...]:
        """The phases, or the whole run as one."""
        return self.phases or (Phase("", self),)

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON, losses left out."""
        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}


def plain(value: Any) -> Any:
    """Settings as JSON values: specs as {name, options}, functions left out."""
    if isinstance(value, OptimizerSpec | ScheduleSpec):
        groups = [[p, plain(o)] for p, o in getattr(value, "groups", ())]
        shown = {"name": value.name, "options": plain(value.options)}
        return {**shown, "groups": groups} if groups else shown
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name != "loss"}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, float) and value != value:
        return "nan"
    if value in (float("inf"), float("-inf")):
        return str(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of settings that make a continuation another run."""
    found = [k for k in sorted({*old, *new}) if k not in FREE and k != "phases" and old.get(k) != new.get(k)]
    before, after = old.get("phases", []), new.get("phases", [])
    if len(before) != len(after):
        return [*found, "phases"]
    for a, b in zip(before, after):
        found += [f"{a['name']}.{k}" for k in differences(a["settings"], b["settings"])]
        if a["name"] != b["name"]:
            found.append("phases")
    return found
