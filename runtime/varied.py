"""A training for each of several values of some names: `vary = missing in [0, 0.3, 0.5]`."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ndl.runtime.history import TrainResult
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """A varied name and its values as they are written; `numbers` are the values if all are numbers."""

    name: str
    labels: tuple[str, ...]
    numbers: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Varied:
    """What the trainings of the block `name` gave: `mean` and `deviation` of each measure over the seeds and
    folds of a training, `[values of each varied name…]`; NaN for the deviation of a single run."""

    name: str
    axes: tuple[Axis, ...]
    mean: Mapping[str, Tensor]
    deviation: Mapping[str, Tensor]
    seconds: Tensor

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is worth a picture: the metrics, else validation, else the loss."""
        found = tuple(n for n in self.mean if n not in ("loss", "validation", "steps"))
        return found or (("validation",) if "validation" in self.mean else ("loss",))

    def places(self) -> list[tuple[int, ...]]:
        """The combinations, the last name varied fastest."""
        return list(itertools.product(*(range(len(a.labels)) for a in self.axes)))

    def at(self, place: tuple[int, ...]) -> dict[str, str]:
        """The varied names at a combination."""
        return {a.name: a.labels[k] for a, k in zip(self.axes, place)}

    def rows(self) -> list[dict[str, Any]]:
        """The measures of each combination, for people and machines."""
        found = []
        for p in self.places():
            measures = {m: {"mean": float(v[p])} for m, v in self.mean.items()}
            for m, v in self.deviation.items():
                if not math.isnan(float(v[p])):
                    measures[m]["deviation"] = float(v[p])
            found.append({"at": self.at(p), **measures})
        return found

    def csv(self) -> str:
        """A row for each combination: the varied names, each measure and its deviation, seconds."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        pairs = [c for m in self.mean for c in (m, f"{m} deviation")]
        writer.writerow([*(a.name for a in self.axes), *pairs, "seconds"])
        for p in self.places():
            numbers = [_cell(v[p]) for m in self.mean for v in (self.mean[m], self.deviation[m])]
            writer.writerow([*self.at(p).values(), *numbers, f"{float(self.seconds[p]):.3f}"])
        return text.getvalue()


def gathered(name: str, axes: tuple[Axis, ...], results: Mapping[tuple[int, ...], TrainResult]) -> Varied:
    """The measures of all combinations."""
    shape = tuple(len(a.labels) for a in axes)
    mean: dict[str, Tensor] = {}
    deviation: dict[str, Tensor] = {}
    seconds = torch.zeros(shape, dtype=torch.float64)
    for place, result in results.items():
        seconds[place] = result.seconds
        for measure, (m, d) in measures_of(result).items():
            mean.setdefault(measure, torch.full(shape, torch.nan, dtype=torch.float64))[place] = m
            deviation.setdefault(measure, torch.full(shape, torch.nan, dtype=torch.float64))[place] = d
    return Varied(name, axes, mean, deviation, seconds)


def measures_of(result: TrainResult) -> dict[str, tuple[float, float]]:
    """Mean and deviation of what a training gives, over its runs if it has several."""
    if result.repeats is not None:
        table = result.repeats
        return {n: (table.mean(n), table.deviation(n)) for n in table.names if n != "steps"}
    found = {"loss": float(result.loss)}
    if result.validation is not None:
        found["validation"] = float(result.validation)
    found |= {k: float(v) for k, v in result.metrics.items() if v.ndim == 0}
    return {k: (v, math.nan) for k, v in found.items()}


def _cell(value: Tensor) -> str:
    return "" if math.isnan(float(value)) else repr(float(value))
