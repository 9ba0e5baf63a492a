"""Nets in Triton kernels: under Triton's interpreter against the kernel interpreter and the CPU's kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from interpreted import by_triton
from ndl.compiler.backends.triton import print_module
from ndl.compiler.backends.triton.ahead import compiled
from ndl.compiler.backends.triton.arrays import TILES, padded
from ndl.compiler.kernels import interpret
from ndl.compiler.kernels.fuse import fuse
from ndl.compiler.kernels.ir import Unsupported
from test_arrays import buffers, kernel

pytest.importorskip("triton")

COUNT = 37
SHAPES = ((1, 1), (5, 3), (13, 17))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a process that interprets finds."""
    folder = tmp_path_factory.mktemp("nets")
    by_triton("triton_nets_worker.py", folder)
    return folder


@pytest.mark.parametrize("precision", ["f64", "f32"])
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_every_operation_agrees_with_the_kernel_interpreter(
    rows: int, columns: int, even: bool, precision: str, found: Path
) -> None:
    given = buffers(rows, columns, COUNT, precision)
    interpret.run(kernel(rows, columns, precision, even), given, COUNT)
    left = np.load(found / "arrays.npz")
    bound = 1e-13 if precision == "f64" else 1e-5
    for name in ("out", "grad"):
        size = float(np.abs(given[name]).max())
        got = left[f"{rows}-{columns}-{even}-{precision}-{name}"]
        np.testing.assert_allclose(got, given[name], rtol=0, atol=bound * size)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("plain", "rk4(steps=2)"),
        ("plain", "dopri5(rtol=1e-3)"),
        ("mixed", "rk4(steps=2)"),
        ("convolved", "midpoint(steps=1)"),
    ],
)
def test_values_and_gradients_are_those_of_the_cpu(name: str, method: str, found: Path) -> None:
    nets = np.load(found / "nets.npz")
    keys = [k for k in nets.files if k.startswith(f"{name} by {method}/triton/")]
    assert len(keys) > 5
    for key in keys:
        wanted = nets[key.replace("/triton/", "/cpu/")]
        bound = (1e-12 if key.endswith("/0") else 1e-9) * float(np.abs(wanted).max())
        np.testing.assert_allclose(nets[key], wanted, rtol=0, atol=bound, err_msg=key)


def test_the_text_reads_as_products() -> None:
    text = print_module(fuse(kernel(13, 17)))
    assert text.count("tl.dot(") == 3 and text.count('input_precision="ieee"') == 3
    double = print_module(fuse(kernel(13, 17)), tf32=True)
    assert "tf32" not in text and "tf32" not in double, "double precision never rounds"
    assert print_module(fuse(kernel(13, 17, "f32")), tf32=True).count('input_precision="tf32"') == 3
    before, _, _ = text.partition("lanes = tl.arange")
    assert before.count("tl.load(w_ptr") == 3, "weights are read once, before all else"


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_products_compile_ahead_of_time(precision: str, tmp_path, monkeypatch) -> None:
    """Double precision goes by tensor cores; single, without rounding, does not."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for architecture in (80, 90):
        made, r = compiled(fuse(kernel(5, 3, precision)), architecture, *TILES[0])
        assert r.spills == 0 and r.shared > 0, r
        assert ("mma" in made.asm["ptx"]) == (precision == "f64")


def test_arrays_that_are_too_wide_are_refused() -> None:
    assert [padded(n) for n in (1, 16, 17, 128)] == [16, 16, 32, 128]
    with pytest.raises(Unsupported, match="128 at most, not 129"):
        padded(129)
