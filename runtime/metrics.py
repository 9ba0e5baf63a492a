"""Measures of predictions over a whole set of samples: they are gathered first, batch by batch, then judged.

The classifiers' measures take scores `[n, classes]`, logits or probabilities (or one score `[n]` of the
second of two classes, positive where it is the more likely), and labels `[n]`; a NaN label is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from ndl.runtime.batches import Batch
from torch import Tensor

Gather = Callable[[int, Batch], Mapping[str, tuple[Tensor, ...]]]
"""(step, batch) -> for each metric, what its measure takes, of the samples of the batch, `[samples, ...]`."""


@dataclass(frozen=True)
class Measure:
    """How the gathered values of a metric become one number (or a table), and which way is better.

    `better` is 1 where more is better, -1 where less is, 0 where there is no order.
    """

    judge: Callable[..., Tensor]
    better: int = -1


@dataclass(frozen=True)
class Metrics:
    """What is looked at beside the loss: `measures` by name, and what gathers their values."""

    measures: Mapping[str, Measure]
    gather: Gather


def mean(values: Tensor) -> Tensor:
    """The mean over samples of a formula of one sample."""
    return values.double().mean()


def accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """The share of samples whose most likely class is the label's."""
    scores, labels = _known(scores, labels)
    return (_predicted(scores) == labels).double().mean()


def confusion(scores: Tensor, labels: Tensor) -> Tensor:
    """`[classes, classes]`: how many samples of class i (the row) are taken for class j (the column)."""
    scores, labels = _known(scores, labels)
    predicted = _predicted(scores)
    classes = scores.shape[1] if scores.ndim > 1 else 2
    classes = max(classes, int(labels.max()) + 1 if len(labels) else 0)
    counts = torch.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).double()


def macro_f1(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean over classes of F1 = 2 tp / (2 tp + fp + fn); classes that neither a label nor a prediction
    names are left out (as scikit-learn does)."""
    table = confusion(scores, labels)
    right = table.diagonal()
    named = table.sum(0) + table.sum(1)
    return (2 * right / named)[named > 0].mean()


def auroc(scores: Tensor, labels: Tensor) -> Tensor:
    """The area under the receiver operating characteristic: the chance that a sample of a class scores higher
    than one of another, ties counting half (Mann and Whitney, 1947). Of more than two classes the mean of
    each against the rest, by their probabilities; a class without samples of both kinds is left out."""
    scores, labels = _known(scores, labels)
    if scores.ndim == 1 or scores.shape[1] == 2:
        second = scores if scores.ndim == 1 else scores[:, 1] - scores[:, 0]
        return _area(second, labels == 1)
    chances = scores.double().softmax(-1)
    areas = torch.stack([_area(chances[:, c], labels == c) for c in range(scores.shape[1])])
    return areas.nanmean()


def _area(scores: Tensor, positive: Tensor) -> Tensor:
    """Mann and Whitney's statistic from mean ranks; NaN without samples of both kinds."""
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        return torch.tensor(torch.nan, dtype=torch.float64)
    _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    rank = counts.cumsum(0).double() - (counts.double() - 1) / 2
    total = rank[place][positive].sum()
    area: Tensor = (total - many * (many + 1) / 2) / (many * few)
    return area


def _predicted(scores: Tensor) -> Tensor:
    return (scores > 0).long() if scores.ndim == 1 else scores.argmax(-1)


def _known(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores `[n, classes]` or `[n]` and whole labels `[n]` of all axes before the classes, without gaps."""
    if scores.ndim == labels.ndim + 1:
        scores = scores.reshape(-1, scores.shape[-1])
        scores = scores[:, 0] if scores.shape[1] == 1 else scores
    else:
        scores = scores.reshape(-1)
    labels = labels.reshape(-1).double()
    there = ~torch.isnan(labels)
    return scores[there], labels[there].long()


MEASURES: Mapping[str, Measure] = {
    "accuracy": Measure(accuracy, 1),
    "macro_f1": Measure(macro_f1, 1),
    "auroc": Measure(auroc, 1),
    "confusion": Measure(confusion, 0),
}
"""The measures that a program can name; each takes scores and labels."""
