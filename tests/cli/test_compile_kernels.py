"""`ndl compile --target cpu|triton`: modules that hold kernels and run without the compiler."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ndl.runtime.paths_in_time import spline

import ndl as language
from ndl.host.embed import quoted

PROGRAM = '''"""Three models."""

model Oscillator:
    """A pendulum, \\\\ damped."""
    param k = 4.0, c in 0..10 = 0.1
    state x = 1.0, v = 0.0
    x' = v
    v' = -k*sin(x) - c*v

model Walk:
    param s = 0.3
    noise W: wiener
    state y = 1.0
    dy = -y*dt + s*y*dW

model Tossed:
    z ~ normal(0, 1)
    state y = 1.0
    y' = z

solve Oscillator:
    span   = 0..1
    method = tsit5(rtol=1e-7, atol=1e-9)
    save   = every 0.5

solve Walk:
    span     = 0..1
    method   = milstein(h=0.5)
    save     = end
    ensemble = 20
    seed     = 3
'''

USE = """
import sys
import numpy as np
import torch
import made

assert not [name for name in sys.modules if name.startswith("ndl.compiler")]
k = torch.linspace(1, 4, 5, dtype=torch.float64).requires_grad_(GRADIENT)
settings = dict(span=(0.0, 1.0), save=("every", 0.5), **({"gradient": "discrete"} if GRADIENT else {}))
pendulum = made.solve_oscillator(k=k, c=0.1, **settings)
found = {"x": pendulum.x.detach().numpy(), "steps": pendulum.stats.steps.numpy()}
if GRADIENT:
    (found["grad"],) = (g.numpy() for g in torch.autograd.grad(pendulum.x.sum(), k))
found["y"] = made.solve_walk(span=(0.0, 1.0), ensemble=20, seed=3).final.y.detach().numpy()
assert not [name for name in sys.modules if name.startswith("ndl.compiler")]
np.savez("found.npz", **found)
"""


DRIVEN = """
model Driven:
    input X: R on time
    state z = 1.0
    dz = z*dX - 0.1*z*dt
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "two.ndl"
    file.write_text(PROGRAM)
    return file


def used(folder: Path, gradient: bool, more: Mapping[str, str]) -> Mapping[str, np.ndarray]:
    """What a process that imports `made.py` finds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NDL_CACHE_DIR": str(folder / "cache"), **more}
    text = USE.replace("GRADIENT", str(gradient))
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(folder / "found.npz")


def solved(program: Path) -> tuple[Any, torch.Tensor]:
    """The same runs by `ndl.solve`: the pendulum's solution and the walk's last values."""
    loaded = language.load(program)
    k = torch.linspace(1, 4, 5, dtype=torch.float64)
    solution = language.solve(
        loaded.Oscillator(k=k, c=torch.full((5,), 0.1, dtype=torch.float64)),
        span="0..1", save="every 0.5", method="tsit5(rtol=1e-7, atol=1e-9)", backend="cpu",
    )  # fmt: skip
    (walk,) = loaded.run("Walk")
    return solution, walk.final.y


def test_a_module_for_the_cpu_runs_without_the_compiler(ndl, program, tmp_path) -> None:
    for name in ("made.py", "again.py"):
        done = ndl("compile", program, "--target", "cpu", "--gradient", "-o", tmp_path / name)
        assert done.code == 0, done.text
    text = (tmp_path / "made.py").read_text()
    assert text == (tmp_path / "again.py").read_text()
    assert "; Oscillator by tsit5, adaptive steps" in text and ";     v' = -k*sin(x) - c*v" in text
    found = used(tmp_path, True, {})
    s, y = solved(program)
    assert np.array_equal(found["x"], s.x.values.numpy()) and np.array_equal(found["y"], y.numpy())
    k = torch.linspace(1, 4, 5, dtype=torch.float64).requires_grad_(True)
    loaded = language.load(program)
    s = language.solve(
        loaded.Oscillator().bind(k=k), span="0..1", save="every 0.5", method="tsit5(rtol=1e-7, atol=1e-9)",
        gradient="discrete", backend="torch",
    )  # fmt: skip
    (wanted,) = torch.autograd.grad(s.x.sum(), k)
    np.testing.assert_allclose(found["grad"], wanted, rtol=1e-9)


def test_a_module_for_triton_runs_without_the_compiler(ndl, program, tmp_path) -> None:
    pytest.importorskip("triton")
    done = ndl("compile", program, "--target", "triton", "-o", tmp_path / "made.py")
    assert done.code == 0, done.text
    text = (tmp_path / "made.py").read_text()
    assert "@triton.jit" in text and "import triton.language as tl" in text
    found = used(tmp_path, False, {"TRITON_INTERPRET": "1"})
    s, y = solved(program)
    assert np.array_equal(found["steps"], s.stats.steps)
    np.testing.assert_allclose(found["x"], s.x.values, rtol=1e-10)
    np.testing.assert_allclose(found["y"], y, rtol=1e-12)


def test_a_module_follows_paths(ndl, tmp_path) -> None:
    """A path of each trajectory, and one for all."""
    file = tmp_path / "driven.ndl"
    file.write_text(DRIVEN)
    done = ndl("compile", file, "--target", "cpu", "--method", "rk4(h=0.125)", "-o", tmp_path / "driven.py")
    assert done.code == 0, done.text
    made = imported(tmp_path / "driven.py")
    ts = torch.linspace(0, 1, 7, dtype=torch.float64)
    xs = torch.stack([torch.sin(k * ts) for k in range(1, 6)])
    z, model = torch.linspace(0.5, 1.5, 5, dtype=torch.float64), language.load(file).Driven()
    for X in (spline(ts, xs, family=True), spline(ts, xs[0])):
        got = made.solve(X=X, z=z, span=(0.0, 1.0)).final.z
        method = "rk4(h=0.125)"
        wanted = language.solve(model.bind(X=X, z=z), span=(0, 1), method=method, backend="torch").final.z
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


LIVELY = """
model Lively:
    param k = 0.9
    z: R[2] ~ normal(0, 1) per step
    w ~ uniform(0, 1)
    state x = 1.0
    x' = -k*x(t - 0.3*k) + z[0]*sin(t) + z[1] + w
    when falling(x - 0.5):
        c ~ uniform(0, 0.4)
        x <- 0.7 + c
"""


def test_a_module_makes_its_draws_and_keeps_its_past(ndl, tmp_path) -> None:
    """Draws of a member, a step and a firing; a delay."""
    file = tmp_path / "lively.ndl"
    file.write_text(LIVELY)
    done = ndl("compile", file, "--target", "cpu", "--method", "rk4(h=0.125)", "-o", tmp_path / "lively.py")
    assert done.code == 0, done.text
    k = torch.linspace(0.5, 1.5, 5, dtype=torch.float64)
    got = imported(tmp_path / "lively.py").solve(k=k, span=(0.0, 1.0), seed=4).final.x
    model = language.load(file).Lively().bind(k=k)
    wanted = language.solve(model, span=(0, 1), method="rk4(h=0.125)", backend="torch", seed=4).final.x
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


SHAKEN = """
model Shaken:
    param k = 0.9
    state x = 1.0
    noise W: wiener
    dx = -k*x*dt + 0.3*x*dW

solve Shaken:
    span = 0..1
    method = milstein(h=0.02)
    noise_step = 0.01
"""


def test_a_module_has_the_steps_of_the_noise(ndl, tmp_path) -> None:
    """Those of the file's solve."""
    file = tmp_path / "shaken.ndl"
    file.write_text(SHAKEN)
    done = ndl("compile", file, "--target", "cpu", "-o", tmp_path / "shaken.py")
    assert done.code == 0, done.text
    got = imported(tmp_path / "shaken.py").solve(span=(0.0, 1.0), ensemble=5, seed=4).final.x
    wanted = language.solve(
        language.load(file).Shaken(), span=(0, 1), method="milstein(h=0.02)", noise_step=0.01, ensemble=5,
        seed=4, backend="torch",
    ).final.x  # fmt: skip
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def imported(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_imports_and_the_docstring(ndl, program) -> None:
    text = ndl("compile", program, "--target", "triton", "--model", "Oscillator", "--method", "rk4").out
    module = ast.parse(text)
    names = {n.module for n in ast.walk(module) if isinstance(n, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(module) if isinstance(n, ast.Import) for a in n.names}
    assert {n.split(".")[0] for n in names if n} <= {"__future__", "typing", "math", "torch", "ndl"}
    assert all(n.startswith("ndl.runtime") for n in names if n and n.startswith("ndl"))
    (function,) = (n for n in module.body if isinstance(n, ast.FunctionDef))
    doc = ast.get_docstring(function) or ""
    assert function.name == "solve" and "v' = -k*sin(x) - c*v" in doc and "fixed steps" in doc


def test_what_cannot_be_embedded_is_refused_with_the_reason(ndl, program, tmp_path) -> None:
    for arguments, why in (
        (["--target", "cpu", "--model", "Tossed", "--method", "etdrk4(h=0.1)"], "has no kernel"),
        (["--target", "cpu", "--model", "Wakl"], "no model called `Wakl`"),
        (["--target", "cpu", "--method", "rk5"], "rk5"),
        (["--gradient"], "go with --target cpu|triton"),
    ):
        done = ndl("compile", program, *arguments)
        assert done.code != 0 and why in done.text, (arguments, done.text)
        assert "NDL901" not in done.text


def test_without_triton_the_module_names_the_extra(ndl, program, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    done = ndl("compile", program, "--target", "triton", "--model", "Oscillator", "-o", tmp_path / "made.py")
    assert done.code == 0, done.text
    names: dict[str, object] = {"__name__": "made"}
    exec(compile((tmp_path / "made.py").read_text(), "made.py", "exec"), names)
    with pytest.raises(Exception, match=r"pip install ndl-lang\[triton\]"):
        names["solve"](span=(0.0, 1.0))  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", 'a"""b"', "\\n\\", '"', "x\n\ny\\\n", "'''\""])
def test_texts_as_literals(text: str) -> None:
    assert ast.literal_eval(quoted(text)) == text
