"""Printed kernels agree with the kernel interpreter, read well, and compile for GPUs without spills."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from interpreted import by_triton
from ndl.compiler.backends.triton import print_module
from ndl.compiler.backends.triton.ahead import TritonMissing, compiled, resources, table
from ndl.compiler.backends.triton.forms import NATIVE
from ndl.compiler.backends.triton.module import printable
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.interpret import run
from ndl.compiler.kernels.ir import KernelError
from ndl.compiler.kernels.ops import TABLE
from ndl.runtime.kernels import files, triton_engine
from triton_cases import Case, Elementwise, collatz, driven, fibonacci, lorenz, nested, one_turn

EXACT = {"f64": 1e-14, "f32": 2e-6}
PRECISIONS = ("f64", "f32")
EXPANDED = [name for name in TABLE if name not in NATIVE]


def cases() -> dict[str, Case]:
    made: dict[str, Case] = {}
    for p in PRECISIONS:
        made[f"native-{p}"] = Elementwise(p, [name for name in TABLE if name in NATIVE]).case()
        made[f"expanded-{p}"] = Elementwise(p, EXPANDED).case()
        made[f"collatz-{p}"] = collatz(p)
        made[f"fibonacci-{p}"] = fibonacci(p)
        made[f"nested-{p}"] = nested(p)
        made[f"lorenz-{p}"] = lorenz(p)
    for count in (0, 1, 8):
        made[f"batch-{count}"] = collatz("f64", count)
    made["a-path-each"], made["a-path-for-all"] = driven(True), driven(False)
    return made


CASES = cases()


@pytest.fixture(scope="session")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All cases run under Triton's interpreter by one process of their own: the buffers they leave."""
    folder = tmp_path_factory.mktemp("triton")
    for name, case in CASES.items():
        (folder / f"{name}.py").write_text(print_module(case.kernel))
        np.savez(folder / f"{name}.npz", count=case.count, block=case.block, **case.buffers)
    by_triton("triton_worker.py", folder)
    yield folder / "out"


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_kernel_interpreter(name: str, interpreted: Path) -> None:
    case = CASES[name]
    wanted = {key: values.copy() for key, values in case.buffers.items()}
    run(printable(case.kernel), wanted, case.count)
    found = np.load(interpreted / f"{name}.npz")
    for key, values in wanted.items():
        tolerance = EXACT[case.kernel.precision] if values.dtype != np.int32 else 0
        np.testing.assert_allclose(found[key], values, rtol=tolerance, atol=tolerance / 10, err_msg=key)


# ---------------------------------------------------------------- the text


def test_the_text_reads_as_the_model() -> None:
    text = print_module(lorenz("f32", even=True).kernel)
    assert "# x' = 10 (y - x)" in text and "x_next" in text and "import torch" not in text
    assert "float64" not in text and "fp64" not in text


def test_what_all_trajectories_share_is_scalar_control_flow() -> None:
    text = print_module(fibonacci("f64").kernel)
    assert "while more0:" in text and "if _any(wanted0):" in text
    assert "if k > 1:" in text and "busy = ~(k_next >= 4)" in text


def test_the_same_kernel_gives_the_same_text() -> None:
    program = "from triton_cases import collatz; from ndl.compiler.backends.triton import print_module; "
    program += "print(print_module(collatz('f64').kernel), end='')"
    environment = {**os.environ, "PYTHONHASHSEED": "2", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == print_module(collatz("f64").kernel)


def test_names_and_docstrings_are_escaped() -> None:
    code = Code("f64")
    code.buffer("lambda", "member", "out")
    code.buffer("m", "member", "out")
    kernel = one_turn(
        code, lambda: code.store("lambda", 0, code.load("m", 0)) if False else None, doc='"""\\'
    )
    text = print_module(kernel)
    compile(text, "kernel", "exec")
    assert "lambda_" in text and "m_" in text


def test_kernels_that_no_module_can_be_made_of() -> None:
    with pytest.raises(KernelError, match="no buffers"):
        print_module(one_turn(Code("f64"), lambda: None))
    code = Code("f64")
    code.buffer("x", "member", "inout")
    with code.block(shared=True) as entry:
        code.load("x", 0)
    with code.block() as step:
        step.yields = (code.const(True, "bool"),)
    with code.block() as other:
        pass
    with pytest.raises(KernelError, match="`entry` of `k` holds"):
        print_module(code.kernel("k", entry, other, step, other))


# ---------------------------------------------------------------- ahead of time


def test_an_adaptive_solve_compiles_without_spills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    rows = resources([lorenz(p).kernel for p in PRECISIONS])
    assert [(r.architecture, r.spills) for r in rows] == [(80, 0), (90, 0)] * 2
    assert all(16 < r.registers <= 128 for r in rows), table(rows)
    assert table(rows).count("lorenz") == 4
    code = compiled(lorenz("f32").kernel, 90)[0].asm["ptx"]
    wide = [line for line in code.splitlines() if ".f64" in line or ".file" in line]
    assert not wide, wide[:5]


def test_without_triton_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match=r"pip install ndl-lang\[triton\]"):
        triton_engine.TritonKernel("")
    with pytest.raises(TritonMissing, match=r"pip install ndl-lang\[triton\]"):
        resources([lorenz("f64").kernel])


# ---------------------------------------------------------------- files, buffers


def test_kernels_are_kept_by_what_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    monkeypatch.delenv("NDL_CACHE_DIR", raising=False)
    assert files.folder() == tmp_path / "shared" / "ndl"
    monkeypatch.setenv("NDL_CACHE_DIR", str(tmp_path / "own"))
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: files.kept("x = 1\n", "triton", ".py"), range(32)))
    (path,) = paths
    assert path.read_text() == "x = 1\n" and [path] == list((tmp_path / "own" / "triton").iterdir())
    path.write_text("x = ")
    assert files.kept("x = 1\n", "triton", ".py").read_text() == "x = 1\n"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NDL_CACHE_DIR", str(tmp_path / "file"))
    assert files.kept("x = 1\n", "triton", ".py").read_text() == "x = 1\n"


def test_buffers_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    import torch

    monkeypatch.setenv("NDL_CACHE_DIR", str(tmp_path))
    case = lorenz("f64")
    kernel = triton_engine.TritonKernel(print_module(case.kernel))
    buffers = {name: torch.from_numpy(b) for name, b in case.buffers.items()}
    for changed, why in (
        ({"rho": buffers["rho"].float()}, "`rho` must be contiguous torch.float64"),
        ({"rho": buffers["rho"][:-1]}, "has 5 numbers for 6 trajectories"),
        ({}, "run on a GPU, not on `cpu`"),
    ):
        with pytest.raises(ValueError, match=why):
            kernel.run(case.count, {**buffers, **changed})
    with pytest.raises(ValueError, match="`start` is missing"):
        kernel.run(case.count, {})
