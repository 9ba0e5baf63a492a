"""The training loop against closed forms, other optimisers' answers, and itself after an interruption."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ndl.runtime import checkpoints
from ndl.runtime.batches import Batch, permutation, split
from ndl.runtime.errors import CheckpointError, SettingError, TrainFailure, TrainInterrupted
from ndl.runtime.optimizers import OptimizerSpec, names
from ndl.runtime.schedules import ScheduleSpec
from ndl.runtime.train_settings import CheckpointPlan, Phase, Player, TrainSettings, ValidatePlan
from ndl.runtime.training import Trainer
from torch import Tensor

POINTS = torch.linspace(-1, 1, 23, dtype=torch.float64)
TARGET = 0.5 + 2 * POINTS + torch.sin(9 * POINTS) / 5


def regression(settings: TrainSettings, **more: Any) -> tuple[Trainer, dict[str, Tensor]]:
    """Fits a line to 23 points; the loss also draws noise, so that the random state matters."""
    weights = {
        "a": torch.tensor(0.0, dtype=torch.float64, requires_grad=True),
        "line.b": torch.tensor([0.1], dtype=torch.float64, requires_grad=True),
    }

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        x, y = (POINTS, TARGET) if batch.index is None else (POINTS[batch.index], TARGET[batch.index])
        noise = 1e-3 * torch.randn((), dtype=torch.float64) if batch.training else 0.0
        fit = (weights["a"] + weights["line.b"] * x - y) ** 2
        return {"fit": fit.mean() + noise * weights["a"], "ridge": 1e-3 * weights["line.b"].square().sum()}

    return Trainer(weights, loss, settings, samples=len(POINTS), **more), weights


def settings(folder: Path | None = None, **more: Any) -> TrainSettings:
    base: dict[str, Any] = {
        "steps": 37,
        "batch": 5,
        "optimizer": OptimizerSpec("adam", {"lr": 0.03, "schedule": ScheduleSpec("cosine")}),
        "checkpoint": CheckpointPlan(folder, every=8),
        "progress": "silent",
    }
    return TrainSettings(**{**base, **more})


@pytest.mark.parametrize("name", names())
def test_every_optimizer_lowers_a_quadratic_and_resumes(name: str, tmp_path: Path) -> None:
    def trainer(folder: Path | None, steps: int) -> tuple[Trainer, Tensor]:
        w = torch.tensor([[2.0, -1.0], [0.5, 1.5]], dtype=torch.float64, requires_grad=True)
        spec = OptimizerSpec(name, {"lr": 0.05})
        plan = CheckpointPlan(folder, every=6)
        run = TrainSettings(steps=steps, optimizer=spec, checkpoint=plan, progress="silent")
        return Trainer({"w": w}, lambda step, batch: ((w - 0.3) ** 4 + w**2).sum(), run), w

    whole, w = trainer(None, 12)
    result = whole.run()
    assert result.loss < result.history.loss[0]
    trainer(tmp_path, 6)[0].run()
    again, v = trainer(tmp_path, 12)
    assert torch.equal(again.run(resume=tmp_path).history.loss, result.history.loss)
    assert torch.equal(v, w)


@pytest.mark.parametrize(
    "optimizer",
    [
        OptimizerSpec("adam", {"lr": 0.03, "schedule": ScheduleSpec("cosine")}),
        OptimizerSpec(
            "sgd", {"lr": 0.1, "momentum": 0.9, "schedule": ScheduleSpec("plateau", {"patience": 2})}
        ),
        OptimizerSpec("lbfgs", {"steps": 3}),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(optimizer: OptimizerSpec, tmp_path: Path) -> None:
    common: dict[str, Any] = {"optimizer": optimizer, "validate": ValidatePlan(0.3, every=4), "clip": 1.0}
    whole, a = regression(settings(**common))
    expected = whole.run()

    class Cut(Exception):
        pass

    def cut(step: int) -> None:
        if step == 21:
            raise Cut

    broken, _ = regression(settings(tmp_path, **common), after_step=cut)
    with pytest.raises(Cut):
        broken.run()
    resumed, b = regression(settings(tmp_path, **common))
    result = resumed.run(resume=tmp_path)
    assert all(torch.equal(a[n], b[n]) for n in a)
    for field in ("loss", "rate", "validation", "validation_steps"):
        assert torch.equal(getattr(result.history, field), getattr(expected.history, field))
    assert torch.equal(result.history.terms["fit"], expected.history.terms["fit"])
    assert result.best_step == expected.best_step and torch.equal(result.loss, expected.loss)
    assert result.steps == 37 and len(result.history.loss) == 37


def test_phases_and_players_resume_in_the_second_phase(tmp_path: Path) -> None:
    def trainer(folder: Path | None) -> tuple[Trainer, dict[str, Tensor]]:
        players = (
            Player("low", fit=("a",), optimizer=OptimizerSpec("sgd", {"lr": 0.1})),
            Player("line", fit=("line",), every=3),
        )
        first, second = settings(steps=9), settings(steps=14, players=players)
        both = settings(folder, steps=None, phases=(Phase("warm", first), Phase("game", second)))
        return regression(both)

    whole, a = trainer(None)
    expected = whole.run()
    run, b = trainer(tmp_path)
    run.run()
    folders = sorted(p.name for p in tmp_path.glob("step-*"))
    assert folders == ["step-00000016", "step-00000023"]
    again, c = trainer(tmp_path)
    again.run(resume=tmp_path / folders[0])
    assert all(torch.equal(a[n], b[n]) and torch.equal(a[n], c[n]) for n in a)
    moved = ~torch.isnan(expected.history.players["line"][9:])
    assert moved.tolist() == [k % 3 == 0 for k in range(14)]


def test_a_kill_loses_at_most_an_interval(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys, torch
        sys.path.insert(0, sys.argv[2])
        from pathlib import Path
        from test_training import regression, settings
        folder = Path(sys.argv[1])
        def tell(step):
            print(step, flush=True)
        regression(settings(folder, steps=100_000), after_step=tell)[0].run()
    """)
    here = str(Path(__file__).parent)
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), here], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    seen = 0
    for line in child.stdout:
        seen = int(line)
        if seen >= 45:
            break
    os.kill(child.pid, signal.SIGKILL)
    seen = max([seen, *map(int, child.stdout.read().split())])
    child.wait()
    loaded = checkpoints.load(tmp_path)
    assert seen - 9 <= loaded.data["step"] <= seen
    longer = settings(
        tmp_path, steps=int(loaded.data["step"]) + 7, optimizer=OptimizerSpec("adam", {"lr": 0.01})
    )
    with pytest.raises(CheckpointError, match="optimizer"):
        regression(longer)[0].run(resume=tmp_path)
    more = settings(tmp_path, steps=int(loaded.data["step"]) + 7)
    assert regression(more)[0].run(resume=tmp_path).steps == loaded.data["step"] + 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_so(number: signal.Signals, tmp_path: Path) -> None:
    def send(step: int) -> None:
        if step == 5:
            os.kill(os.getpid(), number)

    trainer, weights = regression(settings(tmp_path), after_step=send)
    before = signal.getsignal(number)
    with pytest.raises(TrainInterrupted) as stopped:
        trainer.run()
    assert signal.getsignal(number) is before
    assert stopped.value.step == 5 and "--resume" in str(stopped.value)
    saved = checkpoints.load(tmp_path)
    assert saved.data["step"] == 5 and torch.equal(saved.tensors["parameter/a"], weights["a"])
    whole, a = regression(settings())
    whole.run()
    resumed, b = regression(settings(tmp_path))
    resumed.run(resume=tmp_path)
    assert torch.equal(a["a"], b["a"])


def test_a_step_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    w = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def loss(step: int, batch: Batch) -> Tensor:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return w**2

    run = TrainSettings(steps=9, checkpoint=CheckpointPlan(tmp_path, every=2), progress="silent")
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TrainInterrupted, match="step 4, which did not end") as stopped:
        Trainer({"w": w}, loss, run, grace=0.1).run()
    assert stopped.value.checkpoint == str(tmp_path / "step-00000002")
    assert signal.getsignal(signal.SIGALRM) is before


def test_training_in_another_thread_leaves_signals_alone() -> None:
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(regression(settings(steps=2))[0].run().steps))
    thread.start()
    thread.join()
    assert done == [2]


def test_nan_names_the_step_the_term_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    w = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        return {"good": w**2, "bad": torch.log(w - 0.5)}

    run = TrainSettings(
        steps=99,
        optimizer=OptimizerSpec("sgd", {"lr": 0.01}),
        checkpoint=CheckpointPlan(tmp_path, every=2),
        progress="silent",
    )
    with pytest.raises(TrainFailure) as failed:
        Trainer({"w": w}, loss, run).run()
    assert failed.value.term == "bad" and "`bad`" in failed.value.message
    assert f"step {failed.value.step}" in failed.value.message
    good = checkpoints.load(tmp_path)
    assert failed.value.checkpoint == str(good.path) and str(good.path) in str(failed.value)
    assert 1 < failed.value.step - good.data["step"] <= 3
    assert float(good.tensors["parameter/w"]) > 0.5


def test_a_gradient_that_is_not_finite_names_its_parameter() -> None:
    w = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    trainer = Trainer({"slope": w}, lambda s, b: torch.sqrt(w), TrainSettings(steps=1, progress="silent"))
    with pytest.raises(TrainFailure, match="slope"):
        trainer.run()


def test_divergence_stops() -> None:
    w = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    run = TrainSettings(steps=500, optimizer=OptimizerSpec("sgd", {"lr": 3.0}), progress="silent")
    with pytest.raises(TrainFailure, match="diverged"):
        Trainer({"w": w}, lambda s, b: w**2, run).run()


def test_players_reach_the_saddle_point() -> None:
    """min over x, max over y of x^2 - y^2 + x*y + x has its saddle at (-2/5, -1/5)."""
    x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    y = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    players = (Player("x", fit=("x",)), Player("y", fit=("y",), maximize=True))
    run = TrainSettings(
        steps=300, players=players, optimizer=OptimizerSpec("sgd", {"lr": 0.1}), progress="silent"
    )
    Trainer({"x": x, "y": y}, lambda s, b: x**2 - y**2 + x * y + x, run).run()
    assert abs(float(x.detach()) + 0.4) < 1e-9 and abs(float(y.detach()) + 0.2) < 1e-9


def test_fit_moves_only_what_it_names_and_offers_near_names() -> None:
    trainer, weights = regression(settings(fit=("line",)))
    before = weights["a"].clone()
    trainer.run()
    assert torch.equal(weights["a"], before) and float(weights["line.b"].detach()) != 0.1
    with pytest.raises(SettingError, match=r"line\.b"):
        regression(settings(fit=("line.c",)))[0].run()


def test_validation_keeps_the_best() -> None:
    """With a rate that is too large late, the kept parameters are those of the least validation loss."""
    optimizer = OptimizerSpec("sgd", {"lr": 0.05, "schedule": ScheduleSpec.of("linear", 1.2)})
    trainer, weights = regression(
        settings(steps=120, batch=None, optimizer=optimizer, validate=ValidatePlan(0.3, every=1))
    )
    result = trainer.run()
    best = int(result.history.validation.argmin())
    assert best + 1 == result.best_step < 120
    _, held = split(len(POINTS), 0.3, 0)
    fit = weights["a"] + weights["line.b"] * POINTS[held] - TARGET[held]
    expected = fit.square().mean() + 1e-3 * weights["line.b"].square().sum()
    assert abs(expected - result.history.validation[best]) < 1e-14


def test_an_epoch_sees_every_sample_once() -> None:
    seen: list[list[int]] = []
    w = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def loss(step: int, batch: Batch) -> Tensor:
        assert batch.index is not None
        if batch.training:
            seen.append(batch.index.tolist())
        return (w - 1) ** 2

    run = TrainSettings(epochs=3, batch=4, seed=5, progress="silent")
    assert Trainer({"w": w}, loss, run, samples=10).run().steps == 9
    epochs = [[i for batch in seen[k : k + 3] for i in batch] for k in (0, 3, 6)]
    assert all(sorted(e) == list(range(10)) for e in epochs)
    assert epochs[0] != epochs[1] and epochs[0] == permutation(10, 5, 0).tolist()


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    regression(settings(steps=3))[0].run()
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_is_kept_in_checkpoints(tmp_path: Path) -> None:
    def trainer(folder: Path | None, steps: int) -> tuple[Trainer, Tensor]:
        w = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        mean = torch.zeros((), dtype=torch.float64)
        run = TrainSettings(steps=steps, checkpoint=CheckpointPlan(folder, every=4), progress="silent")
        return Trainer(
            {"w": w},
            lambda s, b: (w - mean) ** 2 + w,
            run,
            memory={"mean": mean},
            after_step=lambda step: mean.lerp_(w.detach(), 0.1) and None,
        ), mean

    whole, a = trainer(None, 9)
    whole.run()
    trainer(tmp_path, 4)[0].run()
    resumed, b = trainer(tmp_path, 9)
    resumed.run(resume=tmp_path)
    assert float(a) != 0 and torch.equal(a, b)


def test_a_new_run_does_not_touch_the_checkpoints_of_another(tmp_path: Path) -> None:
    regression(settings(tmp_path))[0].run()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with pytest.raises(CheckpointError, match="--resume"):
        regression(settings(tmp_path))[0].run()
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    regression(settings(tmp_path))[0].run()
    w = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    other = Trainer({"w": w}, lambda s, b: w.sum(), settings(), samples=9)
    with pytest.raises(CheckpointError, match="another model"):
        other.run(resume=tmp_path)
    place = checkpoints.latest(tmp_path)
    assert place is not None
    (place / "tensors.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="damaged"):
        regression(settings(tmp_path))[0].run(resume=tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoints.load(tmp_path / "absent")
    (tmp_path / "latest.json").write_text(json.dumps({"checkpoint": "../../etc"}))
    assert checkpoints.latest(tmp_path) is None


def test_pack_is_inverted_by_unpack(tmp_path: Path) -> None:
    value = {
        "a": [1, 2.5, math.inf, None, True],
        3: (torch.ones(2), {"b": torch.ones((), dtype=torch.complex128) * (1 + 2j)}),
        "text": "x",
    }
    tensors: dict[str, Tensor] = {}
    packed = json.loads(json.dumps(checkpoints.pack(value, tensors, "p"), allow_nan=False))
    checkpoints.CheckpointStore(tmp_path).save(1, checkpoints.Checkpoint({}, tensors))
    back = checkpoints.unpack(packed, checkpoints.load(tmp_path).tensors)
    assert back["a"] == value["a"] and isinstance(back[3], tuple)
    assert torch.equal(back[3][0], torch.ones(2)) and complex(back[3][1]["b"]) == 1 + 2j


def test_unknown_optimizers_options_and_schedules_offer_names() -> None:
    with pytest.raises(SettingError, match="`adam"):
        OptimizerSpec("adamm")
    with pytest.raises(SettingError, match="`betas`"):
        OptimizerSpec("adam", {"beta": [0.9, 0.99]})
    with pytest.raises(SettingError, match="`cosine`"):
        ScheduleSpec("cosin")
    with pytest.raises(SettingError, match="`patience`"):
        ScheduleSpec("plateau", {"patient": 3})
    with pytest.raises(SettingError, match="refuses"):
        OptimizerSpec("adam", {"lr": -1.0}).build({"w": torch.zeros(1, requires_grad=True)})


def test_optimizer_options_reach_torch() -> None:
    spec = OptimizerSpec("adam", {"lr": 0.1, "betas": [0.8, 0.9], "decay": 0.2}, (("b", {"lr": 0.01}),))
    made = spec.build({"a": torch.zeros(1, requires_grad=True), "b.c": torch.zeros(1, requires_grad=True)})
    first, second = made.param_groups
    assert first["betas"] == (0.8, 0.9) and first["weight_decay"] == 0.2
    whole = OptimizerSpec("adam", {"betas": [0, 0.9]}).build({"a": torch.zeros(2, requires_grad=True)})
    assert whole.param_groups[0]["betas"] == (0.0, 0.9)
    assert (first["lr"], second["lr"]) == (0.1, 0.01)


@pytest.mark.parametrize(
    ("spec", "reference"),
    [
        (ScheduleSpec("cosine"), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20)),
        (
            ScheduleSpec("exponential", {"rate": 0.9}),
            lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
        ),
        (ScheduleSpec("step", {"every": 4}), lambda o: torch.optim.lr_scheduler.StepLR(o, 4)),
        (ScheduleSpec("one_cycle"), lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.5, total_steps=21)),
        (ScheduleSpec("linear"), lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, 20)),
    ],
)
def test_schedules_agree_with_torch(spec: ScheduleSpec, reference: Any) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    theirs = reference(optimizer)
    mine = spec.build(0.5)
    total = 21 if spec.name == "one_cycle" else 20
    slack = 0.08 if spec.name == "one_cycle" else 1e-12
    for step in range(20):
        assert abs(0.5 * mine(step, total) - optimizer.param_groups[0]["lr"]) < slack
        optimizer.step()
        theirs.step()


def test_decay_and_warmup() -> None:
    decay = ScheduleSpec.of("decay", 1e-2, 1e-4).build(1.0)
    assert [round(decay(k, 3), 12) for k in range(3)] == [1e-2, 1e-3, 1e-4]
    warm = OptimizerSpec("adam", {"lr": 2.0, "warmup": 4, "schedule": "inverse_sqrt"}).schedule()
    assert warm is not None
    assert [warm(k, 99) for k in (0, 3, 15)] == [0.25, 1.0, 0.5]


def test_plain_progress_tells_loss_speed_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    regression(settings(progress="plain", steps=20), after_step=lambda step: time.sleep(0.001))[0].run()
    lines = capsys.readouterr().err.splitlines()
    assert 10 <= len(lines) <= 12
    assert "step 20/20" in lines[-1] and "loss" in lines[0] and "left" in lines[0] and "steps/s" in lines[0]
    regression(settings(progress="silent", steps=3))[0].run()
    assert capsys.readouterr() == ("", "")


def test_a_loss_that_forgets_the_parameters_is_told_so() -> None:
    w = torch.zeros((), requires_grad=True)
    with pytest.raises(SettingError, match="does not depend"):
        Trainer({"w": w}, lambda s, b: torch.ones(()), TrainSettings(steps=1, progress="silent")).run()
