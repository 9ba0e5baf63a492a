"""What a training run leaves: its losses and its result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ndl.runtime.repeats import Repeats
from torch import Tensor


@dataclass
class Record:
    """Growing histories; NaN where a player did not move or a term was absent."""

    series: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0
    validation: list[float] = field(default_factory=list)
    validation_steps: list[int] = field(default_factory=list)
    metrics: dict[str, list[Tensor]] = field(default_factory=dict)
    metric_steps: list[int] = field(default_factory=list)

    def measured(self, step: int, values: Mapping[str, Tensor]) -> None:
        """The metrics after a step."""
        for name, value in values.items():
            self.metrics.setdefault(name, []).append(value)
        self.metric_steps.append(step)

    def add(self, values: Mapping[str, float]) -> None:
        """The values of one step."""
        for name, value in values.items():
            self.series.setdefault(name, [math.nan] * self.steps).append(value)
        self.steps += 1
        for values_ in self.series.values():
            if len(values_) < self.steps:
                values_.append(math.nan)

    def tensors(self) -> dict[str, Tensor]:
        found = {f"history/{k}": torch.tensor(v, dtype=torch.float64) for k, v in self.series.items()}
        found["validation/loss"] = torch.tensor(self.validation, dtype=torch.float64)
        found["validation/step"] = torch.tensor(self.validation_steps, dtype=torch.int64)
        found |= {f"metric/{k}": torch.stack(v) for k, v in self.metrics.items()}
        found["metrics/step"] = torch.tensor(self.metric_steps, dtype=torch.int64)
        return found

    @staticmethod
    def restore(
        tensors: Mapping[str, Tensor], names: list[str], steps: int, metrics: Sequence[str] = ()
    ) -> Record:
        """From `tensors()`; `names` keeps the order, which a file of tensors does not."""
        series = {name: tensors[f"history/{name}"].tolist() for name in names}
        seen = {name: list(tensors[f"metric/{name}"].unbind()) for name in metrics}
        return Record(
            series,
            steps,
            tensors["validation/loss"].tolist(),
            tensors["validation/step"].tolist(),
            seen,
            tensors["metrics/step"].tolist(),
        )


@dataclass(frozen=True)
class History:
    """loss              [steps]: the loss before each step's move (the first player's)
    terms             name -> [steps], when the loss has several terms
    players           name -> [steps], when there are several players
    rate              [steps]: the learning rate
    validation        [validations], at the steps `validation_steps` (steps done)
    metrics           name -> [looks] or, of tables, [looks, ...], at the steps `metric_steps`
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    players: Mapping[str, Tensor]
    rate: Tensor
    validation: Tensor
    validation_steps: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    metric_steps: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    @staticmethod
    def of(record: Record) -> History:
        series = {k: torch.tensor(v, dtype=torch.float64) for k, v in record.series.items()}
        players = {k.removeprefix("loss/"): v for k, v in series.items() if k.startswith("loss/")}
        terms = {k.removeprefix("term/"): v for k, v in series.items() if k.startswith("term/")}
        empty = torch.zeros(0, dtype=torch.float64)
        tensors = record.tensors()
        return History(
            next(iter(players.values()), empty),
            terms,
            players,
            series.get("rate", empty),
            tensors["validation/loss"],
            tensors["validation/step"],
            {k: tensors[f"metric/{k}"] for k in record.metrics},
            tensors["metrics/step"],
        )


@dataclass(frozen=True)
class TrainResult:
    """`loss` [] is that of the final parameters (the best ones, if there was validation, else their average,
    if there is one): `model` has them, `validation` and `metrics` are theirs. `checkpoint` is the last one
    written; `stopped` says that the training stopped early."""

    loss: Tensor
    history: History
    model: Any
    steps: int
    checkpoint: Path | None = None
    best_step: int | None = None
    seconds: float = 0.0
    stopped: bool = False
    validation: Tensor | None = None
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    repeats: Repeats | None = None
