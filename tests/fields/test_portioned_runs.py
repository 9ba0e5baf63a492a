"""Ensembles in portions of steady and random fields, from the command line, and how much memory they take."""

import subprocess
import sys

import pytest
import torch
import xarray
from ndl.runtime import stored
from ndl.runtime.stored import store

import ndl
from ndl.host import portions
from ndl.host.targets import table_of


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
    data  = store("sweep.zarr", u="u", f="source")
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


ALIKE = """
domain Rod = interval(x in 0..1)

model Bar:
    param f = 1.0
    state u: R on Rod = 0
    EQUATION
    on boundary(Rod): u = 0

solve Bar(f ~ uniform(1, 2)) as memory:
    RUN
    ensemble = 4

solve Bar(f ~ uniform(1, 2)) as sweep:
    RUN
    ensemble = 4
    portion  = 2
    write    = "sweep.zarr"

train Bar as from_memory:
    data  = memory
    RUN
    loss  = mean((u - data.u)^2)
    steps = 1

train Bar as from_disk:
    data  = sweep
    RUN
    loss  = mean((u - data.u)^2)
    steps = 1
"""


@pytest.mark.parametrize(
    ("equation", "run", "shape"),
    [
        ("0 = lap(u) + f", ["grid = uniform(9)", "method = direct()"], (4, 9)),
        (
            "u' = lap(u) + f",
            ["span = 0..0.1", "grid = uniform(9)", "method = rodas5()", "save = end"],
            (4, 1, 9),
        ),
    ],
)
def test_data_in_memory_and_on_disk_have_the_same_axes(tmp_path, equation, run, shape):
    """What moves has an axis of times, also of one; what is steady has none, in a loss neither."""
    text = ALIKE.replace("EQUATION", equation)
    text = text.replace("RUN", "\n    ".join(run)).replace("save = end\n    loss", "save = [0.1]\n    loss")
    (tmp_path / "bar.ndl").write_text(text)
    bar = ndl.load(tmp_path / "bar.ndl")
    results = {n: bar.run(n)[0] for n in ("memory", "sweep", "from_memory", "from_disk")}
    memory, disk = table_of(results["memory"]), store(tmp_path / "sweep.zarr", "sweep")
    assert memory["u"].shape == disk["u"].shape == shape and memory["f"].shape == disk["f"].shape == (4,)
    assert (memory.time is None) == (disk.time is None) == (len(shape) == 2)
    torch.testing.assert_close(memory["u"], disk["u"], rtol=1e-12, atol=1e-13)
    sides = [results["memory"].to_xarray()["u"].dims, xarray.open_zarr(tmp_path / "sweep.zarr")["u"].dims]
    assert sides[0] == sides[1] == (("member", "x") if len(shape) == 2 else ("member", "time", "x"))
    losses = [float(results[n].history.loss[0]) for n in ("from_memory", "from_disk")]
    assert losses[0] > 0 and abs(losses[0] - losses[1]) < 1e-12


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


def test_a_set_says_its_seed_and_version_also_when_it_is_written_at_once(tmp_path):
    program(tmp_path, portion=4).run("sweep")
    text = (
        (tmp_path / "heat.ndl").read_text().replace("    portion  = 4\n", "").replace("sweep.zarr", "all.nc")
    )
    (tmp_path / "heat.ndl").write_text(text)
    (memory,) = ndl.load(tmp_path / "heat.ndl").run("sweep")
    stored = xarray.open_zarr(tmp_path / "sweep.zarr").attrs
    assert memory.to_xarray().attrs == stored and stored["seed"] == "3" and stored["ndl"] == ndl.__version__
