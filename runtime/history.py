"""What a training run leaves: its losses and its result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass
class Record:
    """Growing histories; NaN where a player did not move or a term was absent."""

    series: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0
    validation: list[float] = field(default_factory=list)
    validation_steps: list[int] = field(default_factory=list)

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
        return found

    @staticmethod
    def restore(tensors: Mapping[str, Tensor], names: list[str], steps: int) -> Record:
        """From `tensors()`; `names` keeps the order, which a file of tensors does not."""
        series = {name: tensors[f"history/{name}"].tolist() for name in names}
        return Record(series, steps, tensors["validation/loss"].tolist(), tensors["validation/step"].tolist())


@dataclass(frozen=True)
class History:
    """loss              [steps]: the loss before each step's move (the first player's)
    terms             name -> [steps], when the loss has several terms
    players           name -> [steps], when there are several players
    rate              [steps]: the learning rate
    validation        [validations], at the steps `validation_steps` (steps done)
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    players: Mapping[str, Tensor]
    rate: Tensor
    validation: Tensor
    validation_steps: Tensor

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
        )


@dataclass(frozen=True)
class TrainResult:
    """`loss` [] is that of the final parameters (the best ones, if there was validation): `model` has
    them. `checkpoint` is the last one written."""

    loss: Tensor
    history: History
    model: Any
    steps: int
    checkpoint: Path | None = None
    best_step: int | None = None
    seconds: float = 0.0
