"""What Triton kernels compute depends on neither tile nor workspace; lanes that end take new work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from interpreted import by_triton

pytest.importorskip("triton")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a process that interprets finds."""
    folder = tmp_path_factory.mktemp("tiles")
    by_triton("triton_tiles_worker.py", folder)
    return folder


@pytest.mark.parametrize("name", ["collatz", "nested", "fibonacci", "lorenz"])
def test_no_bit_depends_on_the_tile_or_the_workspace(name: str, found: Path) -> None:
    """Batches of 6 to 13 trajectories: no tile divides them all."""
    runs = np.load(found / "tiles.npz")
    wanted = {k.rpartition("/")[2]: runs[k] for k in runs.files if k.startswith(f"{name}/2/")}
    others = [k for k in runs.files if k.partition("/")[0] in (name, f"{name}-parked")]
    assert len(others) == 6 * len(wanted) >= 12
    for key in others:
        np.testing.assert_array_equal(runs[key], wanted[key.rpartition("/")[2]], err_msg=key)


def test_a_lane_that_ends_takes_the_next_trajectory(found: Path) -> None:
    """One program of two lanes: the first is busy for twelve turns, the other has 3, 1, 4, 2, 1 and 5."""
    left = np.load(found / "clock.npz")
    assert left["ends"][0] == 12
    # results are stored at the turn's end, before the next trajectory begins
    assert left["ends"].tolist() == [12, 3, 4, 8, 10, 11, 16]
    assert left["clock"][0] == 16, "tile by tile it would be 12 + 4 + 2 + 5"


@pytest.mark.parametrize("name", ["tsit5", "rk4", "rosenbrock23", "taylor"])
def test_solves_with_a_workspace_agree(name: str, found: Path) -> None:
    """Values to 1e-12 of their size, the same steps, gradients to 1e-9: of fixed steps, and of adaptive ones
    by as many steps as here. `taylor` is compared with torch, the others with the CPU."""
    runs = np.load(found / "solves.npz")
    keys = [k for k in runs.files if k.startswith(f"{name}/triton/")]
    assert len(keys) >= 3
    for key in keys:
        k = int(key.rpartition("/")[2])
        (other,) = [o for o in runs.files if o.startswith(f"{name}/") and o.endswith(f"/{k}") and o != key]
        bound = (1e-12, 0, 0, 1e-9, 1e-9, 1e-9)[k] * float(np.abs(runs[other]).max())
        np.testing.assert_allclose(runs[key], runs[other], rtol=0, atol=bound, err_msg=key)
