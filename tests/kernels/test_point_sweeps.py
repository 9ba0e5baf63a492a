"""Sweeps as kernels of one point each: by the kernel interpreter, by Triton's, and compiled for GPUs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ndl.compiler.backends.triton.ahead import resources
from ndl.compiler.backends.triton.module import print_module, printable
from ndl.compiler.kernels.grid_points import PointStage, numbers_of, places_of, point_stages
from ndl.compiler.kernels.grid_steps import GridStep
from ndl.compiler.kernels.interpret import run
from sampled_fields import START, TABLEAUX, H, by_hand, made, outside, rates

GRIDS = [
    ((9, 12), (False, True), 2),
    ((11, 12), (False, False), 4),
    ((20,), (True,), 4),
    ((5, 6, 7), (True, True, False), 2),
]


def buffers_of(
    stage: PointStage, arrays: dict[str, np.ndarray], slots: list[float], step: GridStep
) -> dict[str, np.ndarray]:
    count = int(np.prod(step.sweeps.shape))
    found = {name.replace(".", "_"): arrays[name] for name in stage.reads}
    found |= {f"new_{name.replace('.', '_')}": np.zeros(count) for name in stage.writes}
    return found | {"slots": np.array(slots), "place": numbers_of(step.sweeps).reshape(-1)}


@pytest.mark.parametrize("name", TABLEAUX)
@pytest.mark.parametrize(("shape", "periodic", "order"), GRIDS)
def test_a_step_is_that_of_the_interpreter(
    shape: tuple[int, ...], periodic: tuple[bool, ...], order: int, name: str
) -> None:
    torch.manual_seed(3)
    function = rates(shape, periodic, order)
    step = made(function, shape, periodic, name)
    weights = {"nu": torch.tensor(0.7), "K": torch.rand(shape, dtype=torch.float64)}
    numbers, tables = outside(function, step, weights)
    u = torch.rand(shape, dtype=torch.float64)
    arrays = {c: t.reshape(-1).numpy() for c, t in zip(step.sweeps.coefficients(), tables)}
    arrays["y0.0"] = u.reshape(-1).numpy().copy()
    stages = point_stages(step.sweeps)
    for stage in stages:
        buffers = buffers_of(stage, arrays, [START + stage.node * H, H, *numbers], step)
        run(printable(stage.kernel), buffers, u.numel())
        arrays |= {w: buffers[f"new_{w.replace('.', '_')}"] for w in stage.writes}
    got = torch.from_numpy(arrays[f"y{len(stages)}.0"]).reshape(shape)
    torch.testing.assert_close(got, by_hand(function, u, weights, name, 1), rtol=0, atol=1e-11)


def test_every_place_has_its_number() -> None:
    step = made(rates((9, 12), (False, True), 2), (9, 12), (False, True), "euler").sweeps
    numbers, places = numbers_of(step), places_of(step)
    for (i, j), k in np.ndenumerate(numbers):
        expected = (0 if i == 0 else -1 if i == 8 else None, 0 if j == 0 else -1 if j == 11 else None)
        assert places[k] == expected


def test_triton_agrees_with_the_kernel_interpreter(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    shape, periodic = (9, 12), (False, True)
    function = rates(shape, periodic, 2)
    step = made(function, shape, periodic, "rk4")
    weights = {"nu": torch.tensor(0.7), "K": torch.rand(shape, dtype=torch.float64)}
    numbers, tables = outside(function, step, weights)
    (stage, *_) = point_stages(step.sweeps)
    arrays = {c: t.reshape(-1).numpy() for c, t in zip(step.sweeps.coefficients(), tables)}
    arrays["y0.0"] = np.random.default_rng(1).random(108)
    buffers = buffers_of(stage, arrays, [START, H, *numbers], step)
    (tmp_path / "stage.py").write_text(print_module(stage.kernel))
    np.savez(tmp_path / "stage.npz", count=108, block=32, **buffers)
    worker = Path(__file__).parent / "triton_worker.py"
    more = {"NDL_CACHE_DIR": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, worker, tmp_path], env={**os.environ, **more}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run(printable(stage.kernel), buffers, 108)
    found = np.load(tmp_path / "out" / "stage.npz")
    for name, values in buffers.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=1e-13, err_msg=name)


def test_stages_compile_for_gpus_without_spills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    shape, periodic = (64, 64), (False, True)
    step = made(rates(shape, periodic, 2), shape, periodic, "euler")
    found = resources([s.kernel for s in point_stages(step.sweeps)])
    assert [(r.architecture, r.spills) for r in found] == [(80, 0), (90, 0)]
