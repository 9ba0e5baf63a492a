"""Tables and pictures of trainings with varied values."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import torch
from ndl.runtime.plot_varied import compared
from ndl.runtime.varied import Axis, Varied

RATE = Axis("rate", ("0", "0.5"), (0.0, 0.5))
KIND = Axis("kind", ("a", "b", "c"))


def made(name: str = "first_one", axes: tuple[Axis, ...] = (RATE, KIND)) -> Varied:
    mean = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    deviation = torch.tensor([[0.1, math.nan, 0.2], [0.0, 0.3, 0.4]], dtype=torch.float64)
    if axes == (RATE,):
        mean, deviation = mean[:, 0], deviation[:, 0]
    if axes == (KIND,):
        mean, deviation = mean[0], deviation[0]
    return Varied(
        name,
        axes,
        {"loss": mean, "accuracy": mean / 10},
        {"loss": deviation, "accuracy": deviation},
        torch.ones_like(mean),
    )


def test_rows_name_what_was_varied() -> None:
    rows = made().rows()
    assert rows[1] == {"at": {"rate": "0", "kind": "b"}, "loss": {"mean": 2.0}, "accuracy": {"mean": 0.2}}
    assert rows[5]["accuracy"] == {"mean": 3 / 10, "deviation": 0.4}


def test_every_combination_has_a_row_of_the_file() -> None:
    rows = list(csv.reader(io.StringIO(made().csv())))
    assert rows[0] == ["rate", "kind", "loss", "loss deviation", "accuracy", "accuracy deviation", "seconds"]
    assert rows[2] == ["0", "b", "2.0", "", "0.2", "", "1.000"] and len(rows) == 7


def test_a_picture_has_a_curve_for_each_block_at_its_means() -> None:
    (axes,) = compared("accuracy", [made(axes=(RATE,)), made("second", (RATE,))]).axes
    assert len(axes.containers) == 2
    x, y = axes.containers[0].lines[0].get_data()
    assert np.allclose(y, [0.1, 0.0]) and abs(x[1] - x[0] - 0.5) < 1e-12
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["first one", "second"]


def test_names_after_the_first_make_curves() -> None:
    (axes,) = compared("accuracy", [made()]).axes
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [f"first one, kind {k}" for k in "abc"]
    assert np.allclose(axes.containers[2].lines[0].get_data()[1], [0.6, 0.3])


def test_values_that_are_no_numbers_stand_side_by_side() -> None:
    (axes,) = compared("loss", [made(axes=(KIND,))]).axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b", "c"]
