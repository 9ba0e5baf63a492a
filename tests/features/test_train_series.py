"""Training on many series at once: labels, lengths, gaps, irregular times; formulas of one sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ndl.runtime.data import table
from ndl.runtime.series import dropped, filled

from ndl.session import Program

MODEL = """
model Reads:
    input X: R[2] on time
    param k = 0.7
    state z: R[2] = 0
    dz = -k*z*dt + dX
    logits = 2*z

train Reads:
    data      = table("d.npz", time=0..1, X="x", label="y")
    {more}
    method    = tsit5(rtol=1e-8, atol=1e-8)
    backend   = torch
    loss      = {loss}
    optimizer = sgd(lr=0)
    steps     = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = np.random.default_rng(3).normal(size=(5, 4, 2))
    x[1, 2:] = np.nan
    x[2, 1, 0] = np.nan
    t = np.array([[0, 0.2, 0.5, 1.0]] * 5)
    t[3] = [0, 0.3, np.nan, np.nan]
    np.savez(tmp_path / "d.npz", x=x, y=np.array([0, 1, 1, 0, 1]), n=np.array([4, 2, 3, 4, 1]), t=t)
    return tmp_path


def loss(folder: Path, formula: str, more: str = "") -> Any:
    file = folder / "m.ndl"
    file.write_text(MODEL.format(loss=formula, more=more), encoding="utf-8")
    program = Program.load(file)
    program.run()
    (trained,) = program.host.named.values()
    return trained


def test_a_final_readout_is_compared_with_labels(folder: Path) -> None:
    found = loss(folder, "cross_entropy(final.logits, data.label)")
    assert not found.last.alone  # all samples at once
    d = table(folder / "d.npz", time=(0, 1), X="x", label="y")
    values = filled(d.time, d["X"])
    total = 0.0
    for s in range(5):  # dz = -k z dt + dX with X straight between the knots, in closed form
        z = torch.zeros(2, dtype=torch.float64)
        for i in range(3):
            slope, h = 3 * (values[s, i + 1] - values[s, i]), 1 / 3
            z = z * np.exp(-0.7 * h) + slope * (1 - np.exp(-0.7 * h)) / 0.7
        total += float(torch.nn.functional.cross_entropy(2 * z, d["label"][s].long()))
    assert float(found.result.loss) == pytest.approx(total / 5, abs=2e-5)


def test_all_at_once_is_one_after_the_other(folder: Path) -> None:
    formula = "mean((z - data.X)^2) + cross_entropy(final.logits, data.label)"
    together = loss(folder, formula)
    alone = loss(folder, formula + " + 0*root(u -> u - 1, 0.5)")
    assert not together.last.alone and alone.last.alone
    assert float(together.result.loss) == pytest.approx(float(alone.result.loss), abs=1e-12)


def test_a_definition_named_like_an_input_feeds_it(folder: Path) -> None:
    plain = loss(folder, "mean(z^2)")
    same = loss(folder, "mean(z^2)", "X = linear(data.t, data.X)")
    other = loss(folder, "mean(z^2)", "X = hermite(data.t, 2*data.X)")
    assert float(plain.result.loss) == pytest.approx(float(same.result.loss), abs=1e-12)
    assert abs(float(plain.result.loss) - float(other.result.loss)) > 1e-3


def test_paths_that_are_made_once_are_those_of_each_batch(folder: Path) -> None:
    more = "X = hermite(data.t, {})\n    batch = 2\n    validate = 0.4"

    def steps(x: str) -> Any:
        return loss(folder, "cross_entropy(final.logits, data.label)", more.format(x))

    once, anew = steps("2*data.X"), steps("2*data.X + 0*step")
    assert once.last.feeding.kept and not anew.last.feeding.kept
    assert once.result.history.loss.tolist() == pytest.approx(anew.result.history.loss.tolist(), abs=1e-12)
    assert float(once.result.validation) == pytest.approx(float(anew.result.validation), abs=1e-12)
    by_parameter = steps("k*data.X")
    assert not by_parameter.last.feeding.kept


def test_a_definition_for_an_input_may_be_read_by_the_loss(folder: Path) -> None:
    plain = loss(folder, "mean((final.z - data.X[-1])^2)", "X = linear(data.t, data.X)")
    read = loss(folder, "mean((final.z - Y[-1])^2)", "Y = 1*data.X\n    X = linear(data.t, Y)")
    assert float(plain.result.loss) == pytest.approx(float(read.result.loss), abs=1e-12)


def test_series_have_lengths_and_times_of_their_own(folder: Path) -> None:
    d = table(folder / "d.npz", time="t", length="n", X="x", label="y")
    assert d.time is not None and d.time.tolist() == [0, 0.2, 0.3, 0.5, 1.0] and d.samples == 5
    raw = np.load(folder / "d.npz")["x"]
    assert d["X"][3, 2].tolist() == raw[3, 1].tolist() and bool(torch.isnan(d["X"][3, 1]).all())
    short = table(folder / "d.npz", time=(0, 1), length="n", X="x")
    assert bool(torch.isnan(short["X"][4, 1:]).all()) and not bool(torch.isnan(short["X"][4, 0]).any())


def test_a_share_of_the_values_is_left_out() -> None:
    x = torch.zeros(200, 50, 2, dtype=torch.float64)
    found = torch.isnan(dropped({"x": x}, 50, 0.3, 0.0, 1)["x"])
    rows = torch.isnan(dropped({"x": x}, 50, 0.0, 0.3, 1)["x"])
    assert abs(float(found.double().mean()) - 0.3) < 0.015
    assert bool((rows[..., 0] == rows[..., 1]).all()) and abs(float(rows.double().mean()) - 0.3) < 0.02
    assert torch.equal(found, torch.isnan(dropped({"x": x}, 50, 0.3, 0.0, 1)["x"]))


def test_scales_are_those_of_what_is_known(folder: Path) -> None:
    d = table(folder / "d.npz", time=(0, 1), standard=True, X="x")
    v = d["X"].flatten(0, 1)
    assert v.nanmean(0).abs().max() < 1e-12
    assert float((v**2).nanmean(0).sub(1).abs().max()) < 1e-12
    raw = table(folder / "d.npz", time=(0, 1), X="x")
    assert torch.allclose(raw.standard(d.scales)["X"], d["X"], equal_nan=True)


def test_gaps_are_filled_straight() -> None:
    nan = float("nan")
    t = torch.tensor([0.0, 1.0, 3.0, 4.0])
    x = torch.tensor([[nan, 1.0], [2.0, nan], [nan, nan], [5.0, nan]])
    assert filled(t, x).tolist() == [[2.0, 1.0], [2.0, 1.0], [4.0, 1.0], [5.0, 1.0]]
    assert filled(t, torch.full((4, 1), nan)).tolist() == [[0.0]] * 4
