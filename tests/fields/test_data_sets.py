"""Data sets written in portions, resumed after a kill, and read sample by sample."""

import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from ndl.runtime.batches import Batches
from ndl.runtime.errors import DataError
from ndl.runtime.portions import RECORD
from ndl.runtime.stored import open_stored, store

import ndl
from ndl.host.targets import table_of

HEAT = """
domain Rod = interval(x in 0..1)

model Heat:
    param nu = 0.1
    noise W: white on Rod
    state u: R on Rod = nu*sin(pi*x)
    du = nu*lap(u)*dt + 0.1*dW

solve Heat(nu ~ uniform(0.05, 0.2)) as sweep:
    span     = 0..0.02
    grid     = uniform(9, at=cells)
    method   = euler_maruyama(h=0.002)
    save     = every 0.01
    ensemble = 10
    seed     = 3
    PORTION
    write    = "sweep.SUFFIX"
"""
HEAT = HEAT.replace("\n\nsolve", "\n    on boundary(Rod): dn(u) = 0\n\nsolve")


def program(tmp_path, suffix="zarr", portion=4, text=HEAT, **changes):
    line = "" if portion is None else f"portion  = {portion}"
    text = text.replace("SUFFIX", suffix).replace("    PORTION\n", f"    {line}\n" if line else "")
    for old, new in changes.items():
        text = text.replace(old, new)
    path = tmp_path / "heat.ndl"
    path.write_text(text)
    return ndl.load(path)


@pytest.fixture(autouse=True)
def strict():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_portions_are_the_whole_run(tmp_path, suffix):
    (found,) = program(tmp_path, suffix).run("sweep")
    assert (found.portions, found.made) == (3, 3)
    whole = program(tmp_path, portion=None)
    (memory,) = whole.run("sweep")  # nothing is written without a folder
    stored = open_stored(tmp_path / f"sweep.{suffix}", "sweep")
    everyone = torch.arange(10)
    u = torch.from_numpy(stored.rows("u", everyone, slice(None)))
    torch.testing.assert_close(u, memory.u.values, rtol=1e-13, atol=1e-15)
    nu = torch.from_numpy(stored.rows("nu", everyone, None))
    assert torch.equal(nu, memory.model.nu) and len(set(nu.tolist())) == 10
    assert torch.equal(stored.time, memory.t)


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_xarray_opens_a_set(tmp_path, suffix):
    import xarray

    program(tmp_path, suffix).run("sweep")
    engine = "zarr" if suffix == "zarr" else "h5netcdf"
    with xarray.open_dataset(tmp_path / f"sweep.{suffix}", engine=engine) as data:
        assert data.u.dims == ("member", "time", "x") and data.nu.dims == ("member",)
        np.testing.assert_allclose(data.x, (np.arange(9) + 0.5) / 9)
        np.testing.assert_array_equal(data.member, np.arange(10))
        assert data.attrs["seed"] == "3" and "lap(u)" in data.attrs["equations"]
        assert np.isfinite(data.u).all()


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_a_killed_run_goes_on(tmp_path, suffix):
    slow = {"span     = 0..0.02": "span     = 0..2", "save     = every 0.01": "save     = every 1"}
    program(tmp_path, suffix, portion=1, **slow)
    record = tmp_path / ("sweep.zarr" if suffix == "zarr" else "sweep.h5.portions") / RECORD
    command = [sys.executable, "-m", "ndl", "run", "heat.ndl", "-q"]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and not (record.exists() and '"0"' in record.read_text()):
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    with pytest.raises(DataError, match="of its 10 portions") as refused:
        store(tmp_path / f"sweep.{suffix}", "sweep")
    assert refused.value.code == "NDL616" and "goes on" in refused.value.help
    (found,) = program(tmp_path, suffix, portion=1, **slow).run("sweep")
    assert 0 < found.made < 10
    (again,) = program(tmp_path, suffix, portion=1, **slow).run("sweep")
    assert again.made == 0
    own = store(tmp_path / f"sweep.{suffix}", "sweep")["u"]
    assert own.shape == (10, 3, 9) and torch.isfinite(own).all()


def test_another_set_is_not_overwritten(tmp_path):
    program(tmp_path).run("sweep")
    with pytest.raises(ndl.NDLError, match=r"`seed` is `3` there, `4` here"):
        program(tmp_path, **{"seed     = 3": "seed     = 4"}).run("sweep")
    with pytest.raises(ndl.NDLError, match="`model` is"):
        program(tmp_path, **{"nu*sin(pi*x)": "nu*cos(pi*x)"}).run("sweep")
    with pytest.raises(ndl.NDLError, match="`portion` is `4` there, `5` here"):
        program(tmp_path, portion=5).run("sweep")


def test_damaged_portions_are_named_and_made_anew(tmp_path):
    program(tmp_path).run("sweep")
    chunks = sorted((tmp_path / "sweep.zarr" / "u").glob("[0-9]*"))
    assert len(chunks) == 3
    before = store(tmp_path / "sweep.zarr", "sweep")["u"]
    chunks[1].unlink()
    held = store(tmp_path / "sweep.zarr", "sweep")
    held.take(torch.tensor([0, 9]))
    with pytest.raises(DataError, match=r"portion 1 of `u` in `sweep` \(members 4 to 7\)"):
        held.take(torch.tensor([5]))
    (found,) = program(tmp_path).run("sweep")
    assert found.made == 1
    torch.testing.assert_close(store(tmp_path / "sweep.zarr", "sweep")["u"], before, rtol=1e-13, atol=1e-15)


def test_only_wanted_portions_are_read(tmp_path):
    program(tmp_path).run("sweep")
    table = store(tmp_path / "sweep.zarr", "sweep", a="u(0)", b="u(0.02)", nu="nu")
    source = table.columns.source
    some = table.to(dtype=torch.float32).take(torch.tensor([6, 4]))
    assert set(source.reads) == {("u", 1), ("nu", 1)} and len(source.reads) == 2
    assert some["a"].shape == (2, 9) and some["a"].dtype == torch.float32
    with pytest.raises(DataError, match=r"not saved at t = 0.5"):
        store(tmp_path / "sweep.zarr", "sweep", a="u(0.5)")
    with pytest.raises(DataError, match="no array `w`"):
        store(tmp_path / "sweep.zarr", "sweep", a="w")


def test_batches_stay_within_portions():
    batches = Batches(torch.arange(23), 3, 7, portion=6)
    order = [batches.at(k)[1] for k in range(batches.count)]
    everyone = torch.cat(order)
    assert everyone.sort().values.tolist() == list(range(23))
    assert all(len({int(k) // 6 for k in b}) <= 2 for b in order)
    runs = 1 + int((everyone[1:] // 6 != everyone[:-1] // 6).sum())
    assert runs == 4  # each portion is read once
    assert everyone.tolist() != sorted(everyone.tolist())
    assert not torch.equal(batches.at(batches.count)[1], order[0])


TRAINED = (
    HEAT
    + """
net F: R[9] -> R[9] = Linear(bias=false)

train F:
    data      = DATA
    loss      = mean((F(data.a) - data.b)^2)
    optimizer = adam(lr=0.05)
    batch     = 4
    validate  = 0.2
    steps     = 12
"""
)


def test_training_reads_a_set(tmp_path):
    program(tmp_path).run("sweep")
    lazily = 'store("sweep.zarr", a="u(0)", b="u(0.02)")'
    (found,) = program(tmp_path, text=TRAINED, DATA=lazily).run("F")
    table = store(tmp_path / "sweep.zarr", "sweep", a="u(0)", b="u(0.02)")
    np.savez(tmp_path / "plain.npz", a=table["a"], b=table["b"])
    plain = 'table("plain.npz", a="a", b="b")'
    (other,) = program(tmp_path, text=TRAINED, DATA=plain).run("F")
    assert len(found.history.loss) == 12 and found.history.loss[-1] < found.history.loss[0]
    # other batches, the same samples held out and the same initial weights
    assert abs(float(found.validation) - float(other.validation)) < 0.2 * float(other.validation)


def test_a_named_run_in_portions_is_data(tmp_path):
    text = TRAINED.replace("F(data.a) - data.b", "F(data.u[0]) - data.u[2]")
    (found,) = program(tmp_path, text=text, DATA="sweep").run("F")
    assert found.history.loss[-1] < found.history.loss[0]
    assert (tmp_path / "sweep.zarr").is_dir()


def test_portions_need_a_set_and_common_times(tmp_path):
    with pytest.raises(ndl.NDLError, match="for a data set that is written") as refused:
        program(tmp_path, suffix="csv").run("sweep")
    assert refused.value.diagnostics[0].code == "NDL538"
    with pytest.raises(ndl.NDLError, match="portions are of times"):
        program(tmp_path, **{"save     = every 0.01": "save     = steps"}).run("sweep")


def test_what_was_drawn_stands_beside_a_run_in_memory_and_a_set_written_at_once(tmp_path):
    (memory,) = program(tmp_path, portion=None).run("sweep")
    memory.save(tmp_path / "whole.zarr")
    stored = store(tmp_path / "whole.zarr", "whole")
    for table in (stored, table_of(memory)):
        assert torch.equal(table["nu"], memory.model.nu)
        assert table["u"].shape == (10, 3, 9)
