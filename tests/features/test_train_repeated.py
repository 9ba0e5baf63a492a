"""`seeds` and `folds`: each run is what it would be alone; mean, deviation, the table; TensorBoard."""

from __future__ import annotations

import csv
import json
import statistics
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.errors import SettingError
from ndl.runtime.repeats import Repeats, folds_of

from ndl.session import Program

TEXT = """
net F: R[2] -> R[3] = Linear()

train F:
    data      = table("d.npz", x="x", y="y")
    loss      = cross_entropy(F(data.x), data.y)
    metrics   = accuracy
    precision = float64
    optimizer = adam(lr=0.1)
    epochs    = 4
    batch     = 9
    {lines}

test "the numbers of several runs":
    r = train(F)
    both = r.runs[0].metrics.accuracy + r.runs[1].metrics.accuracy
    assert len(r.runs) == 2 and abs(r.mean.accuracy - both/2) < 1e-12
    assert r.deviation.loss > 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    g = np.random.default_rng(2)
    y = g.integers(0, 3, 25)
    np.savez(tmp_path / "d.npz", x=g.normal(size=(25, 2)) + 1.5 * np.eye(3)[y, :2], y=y)
    return tmp_path


def load(folder: Path, *lines: str, text: str = TEXT) -> Program:
    (folder / "m.ndl").write_text(text.format(lines="\n    ".join(lines)), encoding="utf-8")
    return Program.load(folder / "m.ndl")


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def trained(program: Program, **more: Any) -> Any:
    program.run(**more)
    (found,) = program.host.named.values()
    return found


@pytest.mark.parametrize(("samples", "count"), [(10, 3), (7, 7), (25, 2)])
def test_folds_divide_the_samples(samples: int, count: int) -> None:
    folds = folds_of(samples, count, 3)
    assert sorted(k for fold in folds for k in fold) == list(range(samples))
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert folds == folds_of(samples, count, 3) != folds_of(samples, count, 4)


def test_mean_and_deviation_are_those_of_the_runs() -> None:
    rows = tuple({"run": k, "seed": k, "fold": None, "loss": v} for k, v in enumerate([1.0, 2.0, 6.0]))
    found = Repeats(rows)
    assert found.mean("loss") == 3 and found.deviation("loss") == statistics.stdev([1, 2, 6])
    assert np.isnan(Repeats(rows[:1]).deviation("loss"))


def test_each_run_is_that_of_its_seed_alone(folder: Path) -> None:
    many = trained(load(folder, "seeds = [4, 9]", "validate = 0.2"))
    for k, seed in enumerate((4, 9)):
        alone = trained(load(folder, f"seed = {seed}", "validate = 0.2"))
        assert torch.equal(weights(many.runs[k].model.module), weights(alone.model.module))
        assert torch.equal(many.runs[k].result.history.loss, alone.result.history.loss)
    best = min(many.runs, key=lambda r: float(r.result.validation))
    assert many.model is best.model and float(many.result.loss) == float(best.result.loss)
    counted = trained(load(folder, "seeds = 2", "seed = 3"))
    assert [row["seed"] for row in counted.result.repeats.rows] == [3, 4]


def test_a_fold_is_held_out_of_its_run(folder: Path) -> None:
    many = trained(load(folder, "folds = 4", "patience = 100", "seed = 5"))
    raw = np.load(folder / "d.npz")
    x, y = torch.from_numpy(raw["x"]), torch.from_numpy(raw["y"])
    for run, held in zip(many.runs, folds_of(25, 4, 5), strict=True):
        with torch.no_grad():
            right = (run.model.module(x[list(held)]).argmax(-1) == y[list(held)]).double().mean()
        assert float(run.result.metrics["accuracy"]) == pytest.approx(float(right), abs=1e-12)
    accuracies = [float(r.result.metrics["accuracy"]) for r in many.runs]
    table = many.result.repeats
    assert table.mean("accuracy") == pytest.approx(statistics.fmean(accuracies), abs=1e-14)
    assert table.deviation("accuracy") == pytest.approx(statistics.stdev(accuracies), abs=1e-14)
    both = trained(load(folder, "folds = 2", "seeds = 2"))
    assert [(r["seed"], r["fold"]) for r in both.result.repeats.rows] == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_the_best_run_is_chosen_by_what_is_monitored(folder: Path) -> None:
    many = trained(load(folder, "folds = 5", "monitor = accuracy"))
    accuracies = [float(r.result.metrics["accuracy"]) for r in many.runs]
    assert many.model is many.runs[accuracies.index(max(accuracies))].model


def test_in_a_test_block_runs_have_numbers(folder: Path) -> None:
    (result,) = load(folder, "seeds = 2").test()
    assert result.passed, result.message


def test_models_that_are_trained_already_start_alike_in_each_run(folder: Path) -> None:
    text = TEXT.partition("test")[0].replace("train F:", "train F as first:").replace("{lines}", "seed = 1")
    again = "\ntrain F as second:" + TEXT.partition("train F:")[2].partition("test")[0]
    program = load(folder, "seeds = 2", text=text + again.replace("lr=0.1", "lr=0"))
    first, second = program.run()
    starts = [float(r["loss"]) for r in second.repeats.rows]
    assert starts == pytest.approx([float(first.loss)] * 2, abs=1e-12)


def test_the_command_line_writes_and_shows_a_table(folder: Path, ndl: Any) -> None:
    load(folder, "folds = 3")
    shown = ndl("run", folder / "m.ndl", "--out", folder / "out")
    assert shown.code == 0, shown.text
    assert "±" in shown.out and "accuracy" in shown.out
    rows = list(csv.reader((folder / "out" / "runs.csv").open(encoding="utf-8")))
    assert rows[0] == ["run", "seed", "fold", "loss", "validation", "accuracy", "steps"]
    numbers = np.array([[float(c) for c in row[3:]] for row in rows[1:4]])
    assert [row[0] for row in rows[4:]] == ["mean", "deviation"]
    assert [float(c) for c in rows[4][3:]] == pytest.approx(numbers.mean(0).tolist())
    assert [float(c) for c in rows[5][3:]] == pytest.approx(numbers.std(0, ddof=1).tolist())
    for k, row in enumerate(rows[1:4]):
        own = json.loads(
            (folder / "out" / f"seed-0_fold-{k + 1}" / "results.json").read_text(encoding="utf-8")
        )
        assert own["metrics"]["accuracy"] == float(row[5])
    found = ndl("run", folder / "m.ndl", "--json").json[0]
    assert found["mean"]["accuracy"] == pytest.approx(numbers[:, 2].mean()) and len(found["runs"]) == 3


def test_a_killed_series_of_runs_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ndl.host.loss import Loss

    expected = trained(load(folder, "folds = 3", "checkpoint = every 2"))
    out = SimpleNamespace(path=folder / "out")
    out.path.mkdir()
    settle, count = Loss.settle, [0]

    class Killed(BaseException):
        pass

    def killing(self: Loss, step: int) -> None:
        settle(self, step)
        count[0] += 1
        if count[0] == 13:  # in the middle of the second of three runs of 8 steps
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Loss, "settle", killing)
        with pytest.raises(Killed):
            load(folder, "folds = 3", "checkpoint = every 2").run(out=out)
    steps: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(Loss, "settle", lambda self, step: (settle(self, step), steps.append(step))[0])
        found = trained(load(folder, "folds = 3", "checkpoint = every 2"), out=out, resume=True)
    assert steps == [5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8]
    assert found.result.repeats.rows == expected.result.repeats.rows
    assert torch.equal(weights(found.model.module), weights(expected.model.module))


def test_tensorboard_shows_every_number(folder: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = trained(load(folder, "log = tensorboard('logs')".replace("'", '"'), "validate = 0.2")).result
    events = EventAccumulator(str(folder / "logs")).Reload()
    shown = {tag: [(s.step, s.value) for s in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert [v for _, v in shown["loss/training"]] == pytest.approx(found.history.loss.tolist(), rel=1e-6)
    assert [k for k, _ in shown["loss/validation"]] == found.history.validation_steps.tolist()
    assert [v for _, v in shown["metric/accuracy"]] == pytest.approx(
        found.history.metrics["accuracy"].tolist(), rel=1e-6
    )
    assert set(shown) == {"loss/training", "loss/validation", "metric/accuracy", "rate"}


def test_a_resumed_run_replaces_what_it_logs_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from ndl.host.loss import Loss

    lines = ("log = tensorboard", "checkpoint = every 4")
    out = SimpleNamespace(path=folder / "out")
    out.path.mkdir()
    settle = Loss.settle

    class Killed(BaseException):
        pass

    def killing(self: Loss, step: int) -> None:
        settle(self, step)
        if step == 7:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Loss, "settle", killing)
        with pytest.raises(Killed):
            load(folder, *lines).run(out=out)
    found = trained(load(folder, *lines), out=out, resume=True).result
    events = EventAccumulator(str(out.path / "tensorboard")).Reload()
    shown = {s.step: s.value for s in events.Scalars("loss/training")}
    assert len(events.Scalars("loss/training")) == len(shown) == found.steps
    assert [shown[k] for k in sorted(shown)] == pytest.approx(found.history.loss.tolist(), rel=1e-6)


def test_each_of_several_runs_logs_in_its_folder(folder: Path) -> None:
    pytest.importorskip("tensorboard")
    out = SimpleNamespace(path=folder / "out")
    out.path.mkdir()
    load(folder, "log = tensorboard", "seeds = 2").run(out=out)
    for seed in (0, 1):
        assert list((out.path / f"seed-{seed}" / "tensorboard").glob("events.*"))


def test_without_tensorboard_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(NDLError, match=r"pip install 'ndl-lang\[tensorboard\]'") as caught:
        load(folder, 'log = tensorboard("logs")').run()
    assert caught.value.diagnostics[0].code == "NDL614"


WRONG = [
    ("NDL533", "folds = 26"),
    ("NDL533", "folds = 1"),
    ("NDL533", "folds = 3", "validate = 0.2"),
    ("NDL533", "seeds = 0"),
    ("NDL533", "seeds = [1, 1]"),
    ("NDL533", "seeds = [0.5]"),
    ("NDL537", "log = cosine"),
    ("NDL537", "log = tensorboard"),
    ("NDL532", "validate = every 10"),
]


@pytest.mark.parametrize(("code", "lines"), [(c, lines) for c, *lines in WRONG])
def test_mistakes_of_repetition_are_named(folder: Path, code: str, lines: list[str]) -> None:
    with pytest.raises(NDLError) as caught:
        load(folder, *lines).run()
    first = caught.value.diagnostics[0]
    assert first.code == code and first.help and first.span.line == 12, str(caught.value)


def test_one_path_has_no_folds() -> None:
    with pytest.raises(SettingError, match="repeat the training by `seeds = 5`"):
        folds_of(None, 2, 0)
