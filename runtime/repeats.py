"""Several runs of one training, by other seeds or on other folds of the data: each one's numbers, mean and
deviation."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ndl.runtime.batches import permutation
from ndl.runtime.errors import SettingError

if TYPE_CHECKING:
    from ndl.runtime.history import TrainResult

LABELS = ("run", "seed", "fold")


@dataclass(frozen=True)
class Repeats:
    """`rows` have run, seed, fold (None without folds) and numbers: loss, validation, metrics, steps."""

    rows: tuple[Mapping[str, Any], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The numbers that every run has, in order."""
        return tuple(n for n in self.rows[0] if n not in LABELS)

    def values(self, name: str) -> list[float]:
        return [float(row[name]) for row in self.rows]

    def mean(self, name: str) -> float:
        return statistics.fmean(self.values(name))

    def deviation(self, name: str) -> float:
        """The sample standard deviation (n - 1), NaN of a single run."""
        values = self.values(name)
        if len(values) < 2:
            return math.nan
        mean = statistics.fmean(values)
        return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))

    def csv(self) -> str:
        """A row for each run, then `mean` and `deviation`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        labels = [n for n in LABELS if self.rows[0][n] is not None]
        writer.writerow([*labels, *self.names])
        for row in self.rows:
            writer.writerow([*(row[n] for n in labels), *(_cell(row[n]) for n in self.names)])
        for kind in ("mean", "deviation"):
            numbers = [_cell(getattr(self, kind)(n)) for n in self.names]
            writer.writerow([kind, *[""] * (len(labels) - 1), *numbers])
        return text.getvalue()


def row_of(run: int, seed: int, fold: int | None, result: TrainResult) -> dict[str, Any]:
    """The numbers of a run."""
    found: dict[str, Any] = {"run": run, "seed": seed, "fold": fold, "loss": float(result.loss)}
    if result.validation is not None:
        found["validation"] = float(result.validation)
    found |= {k: float(v) for k, v in result.metrics.items() if v.ndim == 0}
    return {**found, "steps": result.steps}


def folds_of(samples: int | None, count: int, seed: int) -> list[tuple[int, ...]]:
    """`range(samples)` in `count` parts by chance, whose sizes differ by one at most."""
    if samples is None:
        raise SettingError(
            "`folds` hold out samples, but the data is a single sample",
            code="NDL533",
            help="give data with an axis of samples, or repeat the training by `seeds = 5`",
        )
    if not 2 <= count <= samples:
        raise SettingError(
            f"`folds` is {count}, and the data has {samples} samples",
            code="NDL533",
            help=f"choose from 2 to {samples}" if samples > 1 else "one sample cannot be divided",
        )
    order = permutation(samples, seed, -1).tolist()
    return [tuple(sorted(order[k::count])) for k in range(count)]


def best_of(rows: Sequence[Mapping[str, Any]], name: str, better: int) -> int:
    """The run whose number is the least, or the largest where `better` is 1."""
    scores = [-better * row[name] for row in rows]
    return min(range(len(rows)), key=lambda k: (math.isnan(scores[k]), scores[k]))


def _cell(value: float) -> str:
    return "" if isinstance(value, float) and math.isnan(value) else repr(value)
