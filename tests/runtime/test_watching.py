"""Early stopping, averages, clipping and metrics in the training loop; all survive an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ndl.runtime.averages import Average, AveragePlan
from ndl.runtime.batches import Batch
from ndl.runtime.errors import SettingError
from ndl.runtime.metrics import Measure, Metrics, mean
from ndl.runtime.optimizers import OptimizerSpec
from ndl.runtime.train_settings import CheckpointPlan, Phase, TrainSettings, ValidatePlan
from ndl.runtime.training import Trainer
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

X = torch.linspace(-1, 1, 24, dtype=torch.float64)
Y = 0.5 + 2 * X + torch.sin(9 * X) / 3


def line(settings: TrainSettings, **more: Any) -> tuple[Trainer, dict[str, Tensor]]:
    """Fits a line, with noise of the global generator in the loss; measures the mean error."""
    w = {n: torch.zeros((), dtype=torch.float64, requires_grad=True) for n in ("a", "b")}

    def residual(batch: Batch) -> Tensor:
        x, y = (X, Y) if batch.index is None else (X[batch.index], Y[batch.index])
        return w["a"] + w["b"] * x - y

    def loss(step: int, batch: Batch) -> Tensor:
        noise = 0.1 * torch.randn((), dtype=torch.float64) * w["a"] if batch.training else 0.0
        return (residual(batch) ** 2).mean() + noise

    def gather(step: int, batch: Batch) -> dict[str, tuple[Tensor, ...]]:
        return {"gap": (residual(batch).abs(),), "signs": (residual(batch).sign(),)}

    counts = Measure(lambda s: torch.stack([(s < 0).sum(), (s > 0).sum()]), 0)
    metrics = Metrics({"gap": Measure(mean, -1), "signs": counts}, gather)
    return Trainer(w, loss, settings, samples=24, metrics=metrics, **more), w


def plan(folder: Path | None = None, **more: Any) -> TrainSettings:
    base: dict[str, Any] = {
        "steps": 40,
        "batch": 6,
        "optimizer": OptimizerSpec("adam", {"lr": 0.05}),
        "validate": ValidatePlan(0.25),
        "checkpoint": CheckpointPlan(folder, every=7),
        "progress": "silent",
    }
    return TrainSettings(**{**base, **more})


class Cut(Exception):
    pass


@pytest.mark.parametrize("cut_at", [7, 22, 39])
@pytest.mark.parametrize(
    "more",
    [
        {"average": AveragePlan("ema", 0.9), "clip_value": 0.3},
        {"average": AveragePlan("swa", start=0.3), "clip": 0.5},
        {"validate": ValidatePlan(0.25, patience=3, monitor="gap", least=0.01)},
        {"validate": None, "average": AveragePlan("swa", start=0.3)},
    ],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path, more: Any, cut_at: int) -> None:
    whole, a = line(plan(**more))
    expected = whole.run()

    def cut(step: int) -> None:
        if step == cut_at + 1:
            raise Cut

    broken, _ = line(plan(tmp_path, **more), after_step=cut)
    if expected.steps > cut_at:
        with pytest.raises(Cut):
            broken.run()
    else:
        broken.run()
    resumed, b = line(plan(tmp_path, **more))
    result = resumed.run(resume=tmp_path)
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert torch.equal(result.loss, expected.loss) and result.steps == expected.steps
    assert result.stopped == expected.stopped and result.best_step == expected.best_step
    for name in ("gap", "signs"):
        assert torch.equal(result.history.metrics[name], expected.history.metrics[name])
        assert torch.equal(result.metrics[name], expected.metrics[name])
    for name in ("loss", "validation", "validation_steps", "metric_steps"):
        assert torch.equal(getattr(result.history, name), getattr(expected.history, name))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(AveragePlan("ema", 0.8), get_ema_multi_avg_fn(0.8)), (AveragePlan("swa", start=0.0), None)],
)
def test_averages_are_those_of_torch(ours: AveragePlan, theirs: Any) -> None:
    net = torch.nn.Linear(3, 2).double()
    peer = AveragedModel(net, multi_avg_fn=theirs)
    average = Average(ours, dict(net.named_parameters()))
    for step in range(1, 8):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        peer.update_parameters(net)
        average.update(step, 7, True)
        for name, p in peer.module.named_parameters():
            assert torch.allclose(average.weights[name], p, rtol=1e-13, atol=1e-13)
    own = net.weight.detach().clone()
    with average.applied():
        assert torch.equal(net.weight, average.weights["weight"])
    assert torch.equal(net.weight, own)


def test_the_result_is_the_mean_of_the_last_epochs() -> None:
    kept: list[Tensor] = []
    settings = plan(validate=None, average=AveragePlan("swa", start=0.5))  # 4 steps an epoch, from step 20 on
    trainer, w = line(settings, after_step=lambda s: kept.append(w["b"].detach().clone()))
    trainer.run()
    expected = torch.stack([kept[s - 1] for s in (24, 28, 32, 36, 40)]).mean()
    assert float(w["b"].detach()) == pytest.approx(float(expected), abs=1e-14)


def test_training_stops_when_patience_ends_and_keeps_the_best() -> None:
    """A loss that is best in step 5 by construction: w moves by 1 in each step, validation is (w - 5)^2."""
    w = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def run(**more: Any) -> Any:
        with torch.no_grad():
            w.zero_()
        settings = TrainSettings(
            steps=50,
            optimizer=OptimizerSpec("sgd", {"lr": 1.0}),
            validate=ValidatePlan(other=0, **more),
            progress="silent",
        )
        check = lambda step, batch: (w - 5) ** 2 if batch.other else torch.tensor(torch.nan)  # noqa: E731
        return Trainer({"w": w}, lambda step, batch: -w, settings, validate=check).run()

    found = run(patience=4)
    assert found.stopped and found.steps == 9 and found.best_step == 5 and float(w.detach()) == 5
    assert float(found.validation) == 0 and len(found.history.validation) == 9
    assert run(patience=4, least=8.0).best_step == 3  # 16, 9, 4, 1, 0: only 4 is less than 16 - 8
    whole = run()
    assert not whole.stopped and whole.steps == 50 and float(w.detach()) == 5


def test_a_gradient_is_cut_by_value_then_by_norm() -> None:
    def moved(**clips: float) -> list[float]:
        w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        slopes = torch.tensor([3.0, -0.5], dtype=torch.float64)
        settings = TrainSettings(
            steps=1, optimizer=OptimizerSpec("sgd", {"lr": 1.0}), progress="silent", **clips
        )
        Trainer({"w": w}, lambda step, batch: -(slopes * w).sum(), settings).run()
        return [float(x) for x in w.detach()]

    assert moved() == [3.0, -0.5]
    assert moved(clip_value=1.0) == [1.0, -0.5]
    assert moved(clip=0.5) == pytest.approx([3 * 0.5 / 9.25**0.5, -0.5 * 0.5 / 9.25**0.5])
    assert moved(clip_value=1.0, clip=0.5) == pytest.approx([0.5 / 1.25**0.5, -0.25 / 1.25**0.5])
    own = OptimizerSpec("sgd", {"lr": 1.0, "clip_value": 2.0})
    assert own.clip_value == 2.0


def test_metrics_are_of_what_is_held_out_or_else_of_all() -> None:
    trainer, w = line(plan())
    held = trainer.held[0]
    result = trainer.run()
    assert held is not None and len(held) == 6
    gap = (w["a"] + w["b"] * X - Y).abs().detach()
    assert float(result.metrics["gap"]) == pytest.approx(float(gap[held].mean()), abs=1e-14)
    assert int(result.metrics["signs"].sum()) == 6
    assert result.history.metrics["signs"].shape == (14, 2)
    trainer, w = line(plan(validate=None))
    result = trainer.run()
    gap = (w["a"] + w["b"] * X - Y).abs().detach()
    assert float(result.metrics["gap"]) == pytest.approx(float(gap.mean()), abs=1e-14)
    assert result.history.metric_steps.tolist() == [4 * k for k in range(1, 11)]


def test_a_listed_fold_is_held_out() -> None:
    out = (1, 5, 20)
    trainer, w = line(plan(validate=ValidatePlan(held=out)))
    assert set(trainer.batches[0].chosen.tolist()) == set(range(24)) - set(out)  # type: ignore[union-attr]
    result = trainer.run()
    gap = (w["a"] + w["b"] * X - Y).abs().detach()
    assert float(result.metrics["gap"]) == pytest.approx(float(gap[list(out)].mean()), abs=1e-14)


def test_patience_ends_the_phases_too(tmp_path: Path) -> None:
    first = plan(steps=8, validate=ValidatePlan(0.25, patience=2, least=1e9))
    both = plan(tmp_path, steps=None, phases=(Phase("one", first), Phase("two", plan(steps=8))))
    trainer, _ = line(both)
    result = trainer.run()
    assert result.stopped and result.steps == 8  # looks after 3, 6, 8: one sets the mark, two in vain
    again, _ = line(both)
    assert again.run(resume=tmp_path).steps == 8


@pytest.mark.parametrize(
    ("monitor", "shown"), [("gapp", "did you mean `gap`"), ("signs", "monitor a number")]
)
def test_what_cannot_be_monitored_is_refused(monitor: str, shown: str) -> None:
    with pytest.raises(SettingError, match=shown) as caught:
        line(plan(validate=ValidatePlan(0.25, monitor=monitor)))
    assert caught.value.code == "NDL530"


@pytest.mark.parametrize(
    "wrong", [{"decay": 1.0}, {"kind": "swa", "start": 1.0}, {"kind": "mean"}, {"decay": -0.1}]
)
def test_averages_check_their_numbers(wrong: Any) -> None:
    with pytest.raises(SettingError):
        AveragePlan(**wrong)
