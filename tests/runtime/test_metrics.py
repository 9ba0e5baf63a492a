"""Metrics against their definitions, counted sample by sample and pair by pair."""

from __future__ import annotations

import itertools

import pytest
import torch
from ndl.runtime.metrics import MEASURES, accuracy, auroc, confusion, macro_f1
from torch import Tensor


@pytest.fixture(params=[2, 3, 5])
def guesses(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    """Scores with ties and labels of `classes` classes."""
    torch.manual_seed(request.param)
    scores = (2 * torch.randn(40, request.param, dtype=torch.float64)).round()
    labels = torch.randint(0, request.param, (40,))
    labels[: request.param] = torch.arange(request.param)
    return scores, labels.double()


def test_accuracy_and_confusion_count_samples(guesses: tuple[Tensor, Tensor]) -> None:
    scores, labels = guesses
    table = torch.zeros(scores.shape[1], scores.shape[1], dtype=torch.float64)
    for row, label in zip(scores.tolist(), labels.tolist()):
        table[int(label), row.index(max(row))] += 1
    assert torch.equal(confusion(scores, labels), table)
    assert float(accuracy(scores, labels)) == float(table.trace() / 40)


def test_macro_f1_is_the_mean_of_harmonic_means(guesses: tuple[Tensor, Tensor]) -> None:
    scores, labels = guesses
    predicted = scores.argmax(-1)
    each = []
    for c in range(scores.shape[1]):
        found = int(((predicted == c) & (labels == c)).sum())
        claimed, there = int((predicted == c).sum()), int((labels == c).sum())
        precision, recall = found / max(claimed, 1), found / max(there, 1)
        each.append(2 * precision * recall / (precision + recall) if found else 0.0)
    assert float(macro_f1(scores, labels)) == pytest.approx(sum(each) / len(each), abs=1e-14)


def pairs(scores: list[float], positive: list[bool]) -> float:
    """The share of (positive, negative) pairs in the right order, ties counting half."""
    won, count = 0.0, 0
    for (s, p), (r, q) in itertools.product(zip(scores, positive), repeat=2):
        if p and not q:
            won, count = won + (1.0 if s > r else 0.5 if s == r else 0.0), count + 1
    return won / count


def test_auroc_is_the_share_of_pairs_in_order(guesses: tuple[Tensor, Tensor]) -> None:
    scores, labels = guesses
    classes = scores.shape[1]
    if classes == 2:
        expected = pairs((scores[:, 1] - scores[:, 0]).tolist(), (labels == 1).tolist())
        assert float(auroc(scores[:, 1] - scores[:, 0], labels)) == pytest.approx(expected, abs=1e-14)
    else:
        p = scores.softmax(-1)
        expected = sum(pairs(p[:, c].tolist(), (labels == c).tolist()) for c in range(classes)) / classes
    assert float(auroc(scores, labels)) == pytest.approx(expected, abs=1e-14)


def test_known_values_of_the_binary_measures() -> None:
    """The example of scikit-learn's manual for `roc_auc_score`, and counts by hand."""
    scores, labels = torch.tensor([0.1, 0.4, 0.35, 0.8]) - 0.38, torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert float(auroc(scores, labels)) == 0.75
    assert confusion(scores, labels).tolist() == [[1, 1], [1, 1]]
    assert float(accuracy(scores, labels)) == 0.5 and float(macro_f1(scores, labels)) == 0.5


def test_a_class_that_is_never_named_is_left_out() -> None:
    scores = torch.eye(4, dtype=torch.float64)[[0, 1, 1, 0]]  # four classes, two of them seen
    labels = torch.tensor([0.0, 1.0, 0.0, 0.0])
    assert float(macro_f1(scores, labels)) == pytest.approx((2 * 2 / 5 + 2 * 1 / 3) / 2)
    assert not torch.isnan(auroc(scores, labels))
    assert torch.isnan(auroc(scores[:, :2], torch.zeros(4)))  # no pair to order


@pytest.mark.parametrize("name", list(MEASURES))
def test_labels_that_are_missing_are_left_out(name: str, guesses: tuple[Tensor, Tensor]) -> None:
    scores, labels = guesses
    gaps = torch.cat([labels, torch.full((6,), torch.nan)]).reshape(2, 23)
    more = torch.cat([scores, torch.randn(6, scores.shape[1]).double()]).reshape(2, 23, -1)
    judge = MEASURES[name].judge
    assert torch.equal(judge(more, gaps), judge(scores, labels))  # also over an axis of times
