"""Metrics, validation on other data, early stopping, averages and growing horizons in `train` blocks."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ndl.compiler.check.watched import MEASURES as NAMES
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.metrics import MEASURES
from torch import Tensor

from ndl.host.loss import Loss
from ndl.session import Program

CLASSES = """
model Reads:
    input x: R[3]
    param W: R[3, 3] = [[1, 0.2, 0], [0, -0.5, 0.3], [0.4, 0, 0.1]]
    state z: R[3] = x
    z' = 0*z
    logits = W @ z

train Reads:
    data      = table("d.npz", x="x", y="y")
    span      = 0..1
    method    = euler(h=1)
    loss      = cross_entropy(final.logits, data.y)
    {lines}

test "the numbers of the result":
    r = train(Reads)
    assert r.metrics.accuracy in 0..1 and r.validation > 0
    assert r.history.metrics.accuracy[0] in 0..1
"""

DECAY = """
model Decay:
    param k = 0.5
    state x = 3.0
    x' = -k*x

train Decay:
    data      = table("decay.npz", time="t", x="x")
    method    = dopri5(rtol=1e-10, atol=1e-10)
    loss      = mean((x - data.x)^2)
    optimizer = sgd(lr={lr})
    steps     = {steps}
    {lines}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    g = np.random.default_rng(5)
    y = g.integers(0, 3, 40)
    np.savez(tmp_path / "d.npz", x=g.normal(size=(40, 3)) + np.eye(3)[y], y=y)
    z = g.integers(0, 3, 15)
    np.savez(tmp_path / "held.npz", x=g.normal(size=(15, 3)) + np.eye(3)[z], y=z)
    t = np.linspace(0, 2, 9)
    np.savez(tmp_path / "decay.npz", t=t, x=3 * np.exp(-1.3 * t))
    return tmp_path


def run(folder: Path, text: str, *lines: str, **more: Any) -> Any:
    file = folder / "m.ndl"
    file.write_text(text.format(lines="\n    ".join(lines), **more), encoding="utf-8")
    program = Program.load(file)
    program.run()
    (found,) = program.host.named.values()
    return found


def scores(trained: Any, x: np.ndarray) -> Tensor:
    W = trained.session.models["Reads"][1].W.detach()
    return torch.from_numpy(x) @ W.T


def test_names_of_metrics_are_those_of_the_runtime() -> None:
    assert set(NAMES) == set(MEASURES)


def test_metrics_are_of_the_other_data(folder: Path) -> None:
    found = run(
        folder,
        CLASSES,
        "gap = mean(abs(final.logits))",
        "metrics = accuracy, confusion, macro_f1, auroc(2*final.logits, data.y), gap, max(final.logits)",
        'validate = table("held.npz", x="x", y="y")',
        "optimizer = adam(lr=0.02)",
        "epochs = 6",
        "batch = 8",
    )
    raw = np.load(folder / "held.npz")
    s, y = scores(found, raw["x"]), torch.from_numpy(raw["y"]).double()
    got = found.result.metrics
    assert list(got) == ["accuracy", "confusion", "macro_f1", "auroc", "gap", "max(final.logits)"]
    assert float(got["accuracy"]) == pytest.approx(float((s.argmax(1) == y).double().mean()), abs=1e-12)
    assert torch.equal(got["confusion"], MEASURES["confusion"].judge(s, y))
    assert float(got["auroc"]) == pytest.approx(float(MEASURES["auroc"].judge(2 * s, y)), abs=1e-12)
    assert float(got["gap"]) == pytest.approx(float(s.abs().mean()), abs=1e-12)
    assert float(got["max(final.logits)"]) == pytest.approx(float(s.max(1).values.mean()), abs=1e-12)
    loss = float(torch.nn.functional.cross_entropy(s, y.long()))
    assert float(found.result.validation) == pytest.approx(loss, abs=1e-12)
    assert found.result.history.metrics["confusion"].shape == (6, 3, 3)  # an epoch, a look


def test_a_share_that_is_held_out_is_measured_and_the_best_is_kept(folder: Path) -> None:
    lines = ("metrics = accuracy", "monitor = accuracy", "validate = 0.3", "optimizer = adam(lr=0.3)")
    found = run(folder, CLASSES, *lines, "batch = 7", "epochs = 12")
    seen = found.result.history.metrics["accuracy"]
    assert len(seen) == 12 and float(found.result.metrics["accuracy"]) == float(seen.max())
    assert found.result.best_step == 4 * (int(seen.argmax()) + 1)  # the first of equals
    rare = run(
        folder, CLASSES, *lines[:2], "validate = 0.3, every 10", *lines[3:], "batch = 7", "epochs = 12"
    )
    assert rare.result.history.validation_steps.tolist() == [10, 20, 30, 40, 48]


def test_patience_ends_a_training_that_gets_no_better(folder: Path) -> None:
    lines = ("validate = 0.3", "batch = 14", "epochs = 20", "optimizer = adam(lr=0.9)")
    found = run(folder, CLASSES, *lines, "patience = 3")
    steps = found.result.history.validation_steps
    best = int(found.result.history.validation.argmin())
    assert found.result.stopped and len(steps) == best + 1 + 3
    assert found.result.best_step == int(steps[best])
    assert not run(folder, CLASSES, *lines, "patience = 30").result.stopped


def test_in_a_test_block_metrics_have_names(folder: Path) -> None:
    lines = ("metrics = accuracy", "validate = 0.3", "steps = 3")
    (folder / "m.ndl").write_text(CLASSES.format(lines="\n    ".join(lines)), encoding="utf-8")
    (result,) = Program.load(folder / "m.ndl").test()
    assert result.passed, result.message


def test_metrics_of_one_path_in_time(folder: Path) -> None:
    found = run(folder, DECAY, "metrics = max(abs(x - data.x)), every 2", lr=0.0, steps=5)
    t = torch.linspace(0, 2, 9, dtype=torch.float64)
    gap = float((3 * torch.exp(-0.5 * t) - 3 * torch.exp(-1.3 * t)).abs().max())
    assert float(found.result.metrics["max(abs(x - data.x))"]) == pytest.approx(gap, abs=1e-7)
    assert found.result.history.metric_steps.tolist() == [2, 4, 5]


@pytest.mark.parametrize(
    ("horizon", "ends"),
    [
        ("ramp(0.5, 2, until=0.5)", [0.5, 1.25, 2, 2, 2, 2]),
        ("0.25*(1 + epoch)", [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]),
        ("0.1", [0.25] * 6),
        ("if step < 3 then 1 else 99", [1, 1, 1, 2, 2, 2]),
    ],
)
def test_a_horizon_cuts_the_data_of_the_training_alone(folder: Path, horizon: str, ends: list[float]) -> None:
    lines = (f"horizon = {horizon}", 'validate = table("decay.npz", time="t", x="x")')
    found = run(folder, DECAY, *lines, lr=0.0, steps=6)
    t = torch.linspace(0, 2, 9, dtype=torch.float64)
    square = (3 * torch.exp(-0.5 * t) - 3 * torch.exp(-1.3 * t)) ** 2
    expected = [float(square[t <= end].mean()) for end in ends]
    assert found.result.history.loss.tolist() == pytest.approx(expected, abs=1e-8)
    assert found.result.history.validation.tolist() == pytest.approx([float(square.mean())] * 6, abs=1e-8)


def test_phases_have_horizons_of_their_own(folder: Path) -> None:
    text = DECAY.replace("    steps     = {steps}\n", "")
    short = "phase short:\n        horizon = 1\n        steps = 2"
    found = run(folder, text, short, "phase long:\n        steps = 2", lr=0.0)
    t = torch.linspace(0, 2, 9, dtype=torch.float64)
    square = (3 * torch.exp(-0.5 * t) - 3 * torch.exp(-1.3 * t)) ** 2
    near, far = float(square[:5].mean()), float(square.mean())
    assert found.result.history.loss.tolist() == pytest.approx([near, near, far, far], abs=1e-8)


def test_phases_take_batches_and_are_validated(folder: Path) -> None:
    phases = ("phase one:\n        epochs = 2\n        batch = 10", "phase two:\n        steps = 3")
    found = run(folder, CLASSES, "batch = 14", "validate = 0.3", "metrics = accuracy", *phases)
    assert found.result.steps == 2 * 3 + 3
    assert found.result.history.validation_steps.tolist() == [3, 6, 8, 9]


def test_an_average_of_weights_is_the_result(folder: Path) -> None:
    lines = ("optimizer = sgd(lr=0.5)", "average = ema(0.5)", "clip_value = 0.01", "steps = 2")
    found = run(folder, CLASSES, *lines)
    start = torch.tensor([[1, 0.2, 0], [0, -0.5, 0.3], [0.4, 0, 0.1]], dtype=torch.float64)
    moved = (found.session.models["Reads"][1].W.detach() - start) / (0.5 * 0.01)
    # after one step 1 and after two 2 cut gradients; the average begins with the first and is half of each
    assert torch.allclose(moved.abs(), torch.full_like(moved, 1.5), atol=1e-9)


RESUMED = {
    "swa": (
        CLASSES,
        "metrics = accuracy, auroc, confusion",
        "validate = 0.3",
        "monitor = auroc",
        "patience = 18",
        "average = swa(start=0.3)",
        "clip_value = 0.05",
        "batch = 14",
        "z: R[3] ~ normal(0, 0.1)",
        "x = data.x + z",
        "optimizer = adam(lr=0.05)",
        "steps = 18",
    ),
    "horizon": (
        DECAY.replace("    optimizer = sgd(lr={lr})\n    steps     = {steps}\n", ""),
        'validate = table("decay.npz", time="t", x="x"), every 3',
        "metrics = mean(abs(x - data.x))",
        "horizon = ramp(0.5, 2)",
        "average = ema(0.8)",
        "clip = 0.5",
        "optimizer = adam(lr=0.05)",
        "steps = 18",
    ),
    "patience": (
        CLASSES,
        "validate = 0.3, every 2",
        "patience = 2",
        "average = ema(0.5)",
        "optimizer = adam(lr=2)",
        "steps = 18",
    ),
}


@pytest.mark.parametrize("cut_at", [5, 15])
@pytest.mark.parametrize("kind", list(RESUMED))
def test_a_killed_run_goes_on_bit_for_bit(
    folder: Path, kind: str, cut_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, *lines = RESUMED[kind]
    expected = run(folder, text, *lines, "checkpoint = every 4").result
    out = SimpleNamespace(path=folder / "out")
    out.path.mkdir()

    class Killed(BaseException):
        pass

    settle = Loss.settle

    def killing(self: Loss, step: int) -> None:
        settle(self, step)
        if step == cut_at:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Loss, "settle", killing)
        if expected.steps >= cut_at:
            with pytest.raises(Killed):
                Program.load(folder / "m.ndl").run(out=out)
        else:
            Program.load(folder / "m.ndl").run(out=out)
    program = Program.load(folder / "m.ndl")
    (found,) = program.run(out=out, resume=True)
    assert found.stopped == expected.stopped == (kind == "patience")
    assert found.steps == expected.steps and found.best_step == expected.best_step
    for name in ("loss", "validation"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
        assert torch.equal(getattr(found.history, name), getattr(expected.history, name))
    for name, values in expected.history.metrics.items():
        assert torch.equal(found.history.metrics[name], values)
    for a, b in zip(found.model.parameters(), expected.model.parameters(), strict=True):
        assert torch.equal(a, b)
    written = json.loads((out.path / "results.json").read_text(encoding="utf-8"))
    assert written["metrics"] == {k: v.tolist() for k, v in expected.metrics.items()}
    rows = list(csv.DictReader((out.path / "history.csv").open(encoding="utf-8")))
    assert len(rows) == expected.steps
    assert float(rows[-1]["validation"]) == float(expected.history.validation[-1])


WRONG = {
    "NDL530": [
        ("metrics = acuracy",),
        ("metrics = final.logits",),
        ("validate = 0.1", "metrics = accuracy", "monitor = auroc"),
    ],
    "NDL531": [("metrics = auroc(final.logits)",)],
    "NDL532": [
        ("patience = 3",),
        ("metrics = accuracy", "monitor = accuracy"),
        ("validate = 0.1", "patience = 0"),
    ],
    "NDL534": [("clip = -1",), ("clip_value = 0",), ("average = ema(1.5)",), ("average = cosine(1)",)],
    "NDL535": [("phase one:\n        patience = 3\n        steps = 1",)],
    "NDL536": [("horizon = 2",)],
    "NDL519": [("validate = cosine",)],
}


@pytest.mark.parametrize(("code", "lines"), [(c, w) for c, many in WRONG.items() for w in many])
def test_mistakes_are_named_with_a_remedy(folder: Path, code: str, lines: tuple[str, ...]) -> None:
    with pytest.raises(NDLError) as caught:
        run(folder, CLASSES, "steps = 2", *lines)
    first = caught.value.diagnostics[0]
    assert first.code == code and first.help, str(caught.value)
    assert first.span.line >= 15, str(caught.value)  # at the setting itself


def test_a_metric_without_a_cross_entropy_says_what_to_write(folder: Path) -> None:
    with pytest.raises(NDLError, match=r"write `accuracy\(final.logits, data.label\)`"):
        run(folder, DECAY, "metrics = accuracy", lr=0.1, steps=2)
