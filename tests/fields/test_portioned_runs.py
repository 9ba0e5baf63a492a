"""Ensembles in portions of steady and random fields, from the command line, and how much memory they take."""

import subprocess
import sys

import pytest
import torch
from ndl.runtime import stored
from ndl.runtime.stored import store

import ndl
from ndl.host import portions


def program(tmp_path, suffix="zarr", portion=4, **changes):
    text = RANDOM.replace("SUFFIX", suffix).replace("PORTION", f"portion  = {portion}")
    for old, new in changes.items():
        text = text.replace(old, new)
    (tmp_path / "heat.ndl").write_text(text)
    return ndl.load(tmp_path / "heat.ndl")


RANDOM = """
domain Rod = interval(x in 0..1)

model Bar:
    param k > 0: R on Rod = 1
    f: R on Rod ~ normal(1, 0.1*(identity - 0.1*lap)^-1)
    state u: R on Rod = 0
    0 = div(k*grad(u)) + f
    on boundary(Rod): u = 0
    source = f

solve Bar(k ~ lognormal(x -> 0.1*x, 0.1*(identity - 0.1*lap)^-1)) as sweep:
    grid     = uniform(9)
    method   = direct()
    ensemble = 10
    seed     = 3
    PORTION
    write    = "sweep.SUFFIX"

net F: R[9] -> R = Sum()

operator Sum(x: R[9]) -> R:
    param w: R[9] = 0
    return dot(w, x)

train F:
    data  = store("sweep.zarr", u="u(1)", f="source(1)")
    loss  = (F(data.f) - data.u[4])^2
    batch = 5
    steps = 2
"""


def test_a_steady_ensemble_of_random_fields(tmp_path):
    """Written in portions it is the whole run; another covariance is another set."""
    program(tmp_path, suffix="nc", portion=10).run("sweep")
    program(tmp_path).run("sweep")
    found = store(tmp_path / "sweep.zarr", "sweep")
    other = store(tmp_path / "sweep.nc", "sweep")
    for name in ("u", "source", "k"):
        torch.testing.assert_close(found[name], other[name], rtol=1e-12, atol=1e-13)
    assert found["source"].shape == (10, 9) and float(found["source"].std(0).min()) > 0.05
    assert found["k"].shape == (10, 9) and "f" not in found.columns
    (trained,) = program(tmp_path).run("F")
    assert trained.history.loss[-1] < trained.history.loss[0]
    with pytest.raises(ndl.NDLError, match="`family` is"):
        program(tmp_path, **{"-> 0.1*x, 0.1*(": "-> 0.1*x, 0.2*("}).run("sweep")


def test_run_resume_makes_what_is_missing(tmp_path):
    """Of the two blocks of a file one was cut off and the other has not begun."""
    program(tmp_path)
    run = [sys.executable, "-m", "ndl", "run", "heat.ndl"]
    refused = subprocess.run([*run, "--resume"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode != 0 and "nothing to resume" in refused.stderr
    program(tmp_path).run("sweep")
    (tmp_path / "runs" / "sweep" / "first").mkdir(parents=True)
    sorted((tmp_path / "sweep.zarr" / "u").glob("[0-9]*"))[1].unlink()
    done = subprocess.run([*run, "--resume"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "1 of them made in this run" in done.stdout, done.stdout + done.stderr
    assert list((tmp_path / "runs" / "F").glob("*/checkpoints"))


def test_memory_is_that_of_a_portion(tmp_path, monkeypatch):
    """Without `portion` as many members are solved at once as the budget has room for; of a set that is read
    two portions of each array stay, or as many as their budget has room for."""
    monkeypatch.setattr(portions, "BUDGET", 8 * 3 * (9 + 9))  # of a member 9 values of u and of source
    program(tmp_path)
    text = (tmp_path / "heat.ndl").read_text().replace("portion  = 4", "")
    (found,) = ndl.loads(
        text.replace("sweep.zarr", str(tmp_path / "sweep.zarr")), allow_paths=[tmp_path]
    ).run("sweep")
    assert (found.portion, found.made) == (3, 4)
    monkeypatch.setattr(stored, "KEPT", 1)
    held = store(tmp_path / "sweep.zarr", "sweep", u="u", k="k")
    for k in range(10):
        held.take(torch.tensor([k]))
        kept = held.columns.source._kept
        assert len(kept) <= 4 and {n for n, _ in kept} == {"u", "k"}
    assert len(kept) == 4
