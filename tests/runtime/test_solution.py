"""What a solution offers: names, paths, interpolation, files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ndl.runtime.errors import DataError
from ndl.runtime.solve import solve

from problems import DOPRI5, RK4, Decay, FirstTouch, Lorenz, VanDerPol, method  # isort: skip


def test_names_and_paths():
    s = solve(VanDerPol(), span=(0, 1), method=method(DOPRI5))
    assert s.names() == ("x", "y") and "x" in s
    assert torch.equal(s["x"].values, s.x.values) and torch.equal(s.path("y").values, s.y.values)
    assert s.x[3:5].shape == (2,) and type(s.x * 2) is torch.Tensor
    assert float(s.final.x) == s.x[-1].item() == pytest.approx(s(1.0).x.item(), rel=1e-14)
    assert s(torch.tensor([0.1, 0.2])).y.shape == (2,)
    with pytest.raises(AttributeError, match=r"`xx`.*did you mean `x`"):
        _ = s.xx
    with pytest.raises(KeyError, match="nothing called"):
        s["w"]
    with pytest.raises(ValueError, match="outside"):
        s.x(1.5)


def test_interpolation_between_saved_times():
    s = solve(Decay(), span=(0, 1), method=method(DOPRI5, rtol=1e-9, atol=1e-9), save=[0, 0.5, 1])
    assert s.x(0.25).item() == pytest.approx(np.exp(-0.25), abs=1e-8)
    s = solve(Decay(), span=(0, 1), method=method(DOPRI5), save="end")
    assert s.t.tolist() == [1.0]
    with pytest.raises(ValueError, match="kept only its end"):
        s.x(0.5)


def test_a_span_of_no_length():
    s = solve(Decay(), span=(1, 1), method=method(DOPRI5))
    assert s.t.tolist() == [1.0] and s.final.x.item() == 1.0 and s.stats.steps == 0
    s = solve(Decay(), span=(1, 1), method=method(RK4, h=0.1), gradient="discrete")
    assert s.final.x.item() == 1.0


def test_frames_and_files(tmp_path):
    rho = torch.tensor([10.0, 28.0], dtype=torch.float64)
    s = solve(Lorenz(rho=rho), span=(0, 1), method=method(RK4, h=0.01), save=("every", 0.5))
    frame = s.to_pandas()
    assert list(frame.columns) == ["member", "t", "x", "y", "z"] and len(frame) == 6
    assert frame["x"].to_numpy() == pytest.approx(s.x.values.reshape(-1).numpy())
    dataset = s.to_xarray()
    assert dict(dataset.sizes) == {"member": 2, "time": 3}
    assert float(dataset["z"].sel(member=1, time=1.0)) == s.z[1, 2].item()
    for suffix in (".csv", ".parquet", ".npz"):
        s.save(tmp_path / f"lorenz{suffix}")
    import pandas

    assert np.array_equal(pandas.read_csv(tmp_path / "lorenz.csv")["y"], frame["y"])
    assert np.array_equal(pandas.read_parquet(tmp_path / "lorenz.parquet")["y"], frame["y"])
    assert np.array_equal(np.load(tmp_path / "lorenz.npz")["y"], s.y.values)
    with pytest.raises(DataError, match=r"\.csv"):
        s.save(tmp_path / "lorenz.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lorenz.csv", "lorenz.npz", "lorenz.parquet"]


def test_ragged_members_are_written_without_padding():
    heights = torch.tensor([2.0, 10.0], dtype=torch.float64)
    s = solve(FirstTouch(h=heights), span=(0, 3), method=method(DOPRI5), save=("every", 0.5))
    assert s.to_pandas().groupby("member").size().tolist() == [3, 4]
