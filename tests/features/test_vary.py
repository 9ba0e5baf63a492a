"""`vary` of a `train`: a training for each of several values, seeds in each, tables and pictures of all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndl.session import Program

MODEL = """
model Line:
    input x: R
    param a = 0.0
    state y = 0.0
    y' = a*x
"""

BLOCK = """
train Line{target}:
    data      = table("d.npz", x="x", y="y")
    span      = 0..1
    method    = euler(steps=1)
    loss      = (final.y - data.y)^2
    {more}
    optimizer = sgd(lr=0)
    steps     = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    np.savez(tmp_path / "d.npz", x=x, y=2 * x)
    return tmp_path


def run(folder: Path, text: str) -> tuple[Any, Program]:
    file = folder / "m.ndl"
    file.write_text(text, encoding="utf-8")
    program = Program.load(file)
    (result,) = program.run()
    return result, program


SQUARES = float(np.mean(np.array([1.0, 2.0, 3.0, 4.0]) ** 2))


def test_each_combination_is_a_training(folder: Path) -> None:
    more = "vary = [start in [0, 1.5, 2], scale in 1..2]\n    seeds = 2"
    block = BLOCK.format(target="(a=start)", more=more).replace("loss      = ", "loss      = scale*")
    found, _ = run(folder, MODEL + block)
    assert [a.labels for a in found.axes] == [("0", "1.5", "2"), ("1", "2")]
    expected = np.outer([4.0, 0.25, 0.0], [1, 2]) * SQUARES
    assert np.allclose(found.mean["loss"], expected, atol=1e-12)
    assert np.allclose(found.deviation["loss"], 0, atol=1e-12)


def test_a_setting_is_varied_and_trainings_start_anew(folder: Path) -> None:
    block = BLOCK.format(target="", more="vary = steps in [1, 3, 1]\n    batch = 2").replace(
        "lr=0", "lr=0.01"
    )
    found, program = run(folder, MODEL + block.replace("    steps     = 1\n", ""))
    (trained,) = program.host.named.values()
    assert [r.result.steps for r in trained.runs] == [1, 3, 1]
    loss = found.mean["loss"]
    assert loss[1] < loss[0] and loss[2] == loss[0]


def test_a_model_trained_before_is_not_changed(folder: Path) -> None:
    first = BLOCK.format(target=" as first", more="")
    second = BLOCK.format(target="", more="vary = lr in [0.01, 0.01]").replace(
        "train Line:", "train first.model as second:"
    )
    text = MODEL + first + second.replace("lr=0)", "lr=lr)")
    (folder / "m.ndl").write_text(text, encoding="utf-8")
    program = Program.load(folder / "m.ndl")
    _, found = program.run()
    assert found.mean["loss"][0] == found.mean["loss"][1] < 4 * SQUARES
    assert program.host.named[id(program.runs[0].stmt)].model.instance.a.item() == 0


def test_results_are_a_table_and_a_picture(folder: Path, ndl: Any) -> None:
    more = "vary = batch in [1, 2]\n    seeds = {}\n    metrics = abs(a)\n    validate = 0.25"
    text = MODEL + BLOCK.format(target="", more=more.format(2))
    text += BLOCK.format(target=" as second", more=more.format(3))
    (folder / "m.ndl").write_text(text, encoding="utf-8")
    done = ndl("run", folder / "m.ndl", "--out", folder / "out")
    assert done.code == 0, done.text
    assert "batch = 2: " in done.text and "abs(a) 0" in done.text
    rows = (folder / "out" / "second" / "results.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("batch,loss,loss deviation,") and len(rows) == 3
    assert (folder / "out" / "second" / "batch-2" / "runs.csv").exists()
    picture = (folder / "out" / "second" / "abs-a-.svg").read_text(encoding="utf-8")
    assert len(set(re.findall(r"LineCollection_\d+", picture))) == 4  # bars of both blocks and of their keys
    assert (folder / "out" / "Line" / "abs-a-.png").exists()


def test_a_test_reads_all_trainings(folder: Path, ndl: Any) -> None:
    block = BLOCK.format(target=" as fits", more="vary = [lr in [0, 0.01], k in 0..2]").replace(
        "lr=0", "lr=lr"
    )
    shape, fall = "shape(fits.mean.loss) == [2, 3]", "fits.mean.loss[1, 0] < fits.mean.loss[0, 0]"
    test = f'test "of all":\n    assert {shape}\n    assert {fall}\n'
    (folder / "m.ndl").write_text(MODEL + block + test, encoding="utf-8")
    assert ndl("test", folder / "m.ndl").code == 0


@pytest.mark.parametrize(
    ("vary", "code"),
    [("[0, 1]", "NDL526"), ("[b in [1], b in [2]]", "NDL526"), ("steps in [1, 2]", "NDL507")],
)
def test_what_is_varied_is_said(folder: Path, ndl: Any, vary: str, code: str) -> None:
    (folder / "m.ndl").write_text(MODEL + BLOCK.format(target="", more=f"vary = {vary}"), encoding="utf-8")
    assert code in ndl("check", folder / "m.ndl").text
