"""Gradients by checkpoints in kernels: those of the whole tape, in the memory that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ensembles import TWO_STEP
from interpreted import by_triton
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.kernels import interpret
from ndl.compiler.kernels.implicit import ImplicitStepper
from ndl.runtime import gradients, memory
from ndl.runtime.kernels import ode, stretches
from ndl.runtime.kernels.cpu_engine import Compiled
from ndl.runtime.paths_in_time import spline
from torch import Tensor

import ndl
from ndl.host.kernels import Kernels

SOURCE = """
model Lorenz:
    param rho = 28.0
    param sigma = 10.0
    state x: R[3] = [1.0, 1.0, 1.0]
    x' = [sigma*(x[1] - x[0]), x[0]*(rho - x[2]) - x[1], x[0]*x[1] - 8/3*x[2] + sin(t)]

model Stiff:
    param mu = 50.0
    state x: R[2] = [2.0, 0.0]
    x' = [x[1], mu*(1 - x[0]^2)*x[1] - x[0] + 0.1*sin(t)]

model Sudden:
    state x: R[2] = [1.0, 0.0]
    x' = [-1000*x[0]*sigmoid(50*(t - 1)) + x[1], -x[1]^3]

model Scalar:
    param s = 0.4
    noise W: wiener
    state x = 1.0
    dx = 0.3*x*dt + s*x*dW

model Additive:
    param s: R[2, 2] = [[0.3, 0.1], [0.05, 0.2]]
    noise W: wiener[2]
    state x: R[2] = [1.0, 0.5]
    dx = -0.5*x*dt + s @ dW

model Node:
    net f: R[4] -> R[4] = MLP(width=20, depth=1, act=tanh)
    state x: R[4] = 0.5
    x' = f(x)

model NoisyNode:
    calculus stratonovich
    net f: R[2] -> R[2] = MLP(width=20, depth=1, act=tanh)
    net g: R[2] -> R[2] = MLP(width=20, depth=1, act=sigmoid)
    noise W: wiener[2]
    state x: R[2] = 0.5
    dx = f(x)*dt + 0.2*g(x)*dW

model Split:
    param k = 0.7
    state x: R[2] = [1.0, 0.5]
    term turn = [k*x[1], -k*x[0]]
    term damp = [-x[0]^3, -0.1*x[1]]
    x' = turn + damp

model Controlled:
    input X: R[2] on time
    net f: R[4] -> R[8] = MLP(width=20, depth=1, act=tanh)
    state x: R[4] = 0.1
    dx = f(x)[0:4]*dX[0] + f(x)[4:8]*dX[1]
"""

COUNT = 19
"""Whole blocks of lanes and a part of one."""

SIZES = {
    "Lorenz": (3,),
    "Stiff": (2,),
    "Sudden": (2,),
    "Scalar": (),
    "Additive": (2,),
    "NoisyNode": (2,),
    "Split": (2,),
}


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE + TWO_STEP)


def run(program: Any, name: str, method: str, gradient: str, **settings: Any) -> tuple[Any, list[Tensor]]:
    """The solution, and gradients by the initial values of each trajectory, weights and paths."""
    model = getattr(program, name)()
    dtype = torch.float32 if settings.get("precision") == "float32" else torch.float64
    count = settings.pop("count", COUNT)
    noise = torch.randn(count, *SIZES.get(name, (4,)), generator=torch.Generator().manual_seed(0)).to(dtype)
    x = (1 + 0.3 * noise).requires_grad_()
    leaves, bound = [x, *(w.requires_grad_() for w in model.parameters())], {}
    if name == "Controlled":
        values = torch.linspace(-1, 1, 14, dtype=dtype).reshape(7, 2).square().requires_grad_()
        bound = {"X": spline(torch.linspace(0, 1, 7, dtype=dtype), values)}
        leaves.append(values)
    given = {"span": (0, 1), "save": "end", "backend": "cpu", "seed": 3, **settings}
    s = ndl.solve(model.bind(x=x, **bound), method=method, gradient=gradient, **given)
    loss = s.x.values.square().sum() + s.final.x.sin().sum()
    return s, [g for g in torch.autograd.grad(loss, leaves, allow_unused=True) if g is not None]


def close(got: list[Tensor], wanted: list[Tensor], bound: float) -> None:
    for k, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert float((a - b).abs().max()) <= bound * float(b.abs().max()), k


@dataclass
class Rooms:
    """States and rows of a tape that a way back had room for, and how many launches it took."""

    states: int = 0
    rows: int = 0
    kept: int = 0
    launches: int = 0


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> Rooms:
    """What the last way back had."""
    found = Rooms()
    plain = stretches.Way.run

    def noted(way: Any, slots: int, buffers: dict[str, Tensor], launch: Any, *more: Any) -> None:
        def counted(made: Any, given: dict[str, Tensor]) -> None:
            launch(made, given)
            again, count = way.kernels.again, given["x0"].shape[1]
            assert given["tape"].numel() % (again.width * count) == 0
            found.states = given["states"].numel() // (again.held * count) if way.plan.places else 0
            found.rows = given["tape"].numel() // (again.width * count)
            found.kept = again.kept
            found.launches += 1

        found.launches = 0
        plain(way, slots, buffers, counted, *more)

    monkeypatch.setattr(stretches.Way, "run", noted)
    return found


CASES = [
    ("Lorenz", "rk4(h=0.03)", "every 0.3"),
    ("Lorenz", "dopri5(rtol=1e-5)", "every 0.3"),
    ("Lorenz", "taylor(rtol=1e-7)", "end"),
    ("Lorenz", "two_step(h=0.02)", "end"),
    ("Stiff", "kvaerno5(rtol=1e-6)", "every 0.3"),
    ("Stiff", "trapezoidal(h=0.05)", "end"),
    ("Stiff", "rodas5(rtol=1e-5)", "end"),
    ("Scalar", "milstein(h=0.02)", "every 0.13"),
    ("Scalar", "sri(rtol=1e-3)", "every 0.13"),
    ("Additive", "sra1(h=0.05)", "end"),
    ("Node", "tsit5(h=0.04)", "every 0.3"),
    ("Node", "dopri5(rtol=1e-8)", "end"),
    ("NoisyNode", "reversible_heun(h=0.05)", "end"),
    ("Split", "strang(turn: exact, damp: rk4, h=0.03)", "every 0.3"),
    ("Controlled", "dopri5(rtol=1e-5)", "end"),
]


@pytest.mark.parametrize(("name", "method", "save"), CASES)
def test_gradients_are_those_of_the_whole_tape(
    program: Any, name: str, method: str, save: str, rooms: Rooms
) -> None:
    s, wanted = run(program, name, method, "discrete", save=save)
    assert int(s.stats.steps.max()) > 5
    for n in (2, 5):
        t, got = run(program, name, method, f"checkpoint({n})", save=save)
        assert torch.equal(s.stats.steps, t.stats.steps)
        close([t.x.values.detach()], [s.x.values.detach()], 1e-14)
        # areas are differences of integrals from the path's start on, which lose digits
        close(got, wanted, 1e-11 if "sra1" in method else 1e-12)
        assert rooms.rows >= 1 and rooms.states + rooms.rows <= n


@pytest.mark.parametrize("method", ["rk4(h=0.05)", "dopri5(rtol=1e-6)"])
def test_more_states_are_fewer_steps_taken_again(program: Any, method: str, rooms: Rooms) -> None:
    s, wanted = run(program, "Lorenz", method, "discrete")
    steps, launches = int(s.stats.steps.max()), []
    assert len(set(s.stats.steps.tolist())) > 1 or "h=" in method, "trajectories end at different steps"
    for n in (1, 3, 8, 100):
        close(run(program, "Lorenz", method, f"checkpoint({n})")[1], wanted, 1e-13)
        assert rooms.states + rooms.rows <= min(n, steps)
        launches.append(rooms.launches)
    assert launches == sorted(launches, reverse=True)
    assert launches[0] == 2 * steps and launches[-1] == 2


def test_steps_on_a_jacobian_that_earlier_attempts_renewed(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what the trail says of it, the iterations would start elsewhere."""
    settings = {"span": (0, 2), "count": 4}
    method = "sdirk(rtol=1e-3, atol=1e-5)"
    s, wanted = run(program, "Sudden", method, "discrete", **settings)
    assert int(s.stats.rejected.sum()) > 0
    close(run(program, "Sudden", method, "checkpoint(3)", **settings)[1], wanted, 1e-12)
    monkeypatch.setattr(ImplicitStepper, "renewed", lambda self, carry, fresh: carry)
    got = run(ndl.loads(SOURCE), "Sudden", method, "checkpoint(3)", **settings)[1]
    assert float((got[0] - wanted[0]).abs().max()) > 1e-10 * float(wanted[0].abs().max())


@pytest.mark.parametrize(
    ("name", "method", "settings"),
    [
        ("Lorenz", "tsit5(rtol=1e-6)", {"span": (0.3, 0)}),
        ("Scalar", "milstein(h=0.125)", {"span": (-1, 1)}),
        ("Scalar", "sri(rtol=1e-2)", {"span": (-1, 1), "save": "every 0.5"}),
        ("Lorenz", "dopri5(rtol=1e-4)", {"precision": "float32"}),
        ("Lorenz", "rk4(steps=9)", {"save": "steps"}),
    ],
)
def test_other_runs(program: Any, name: str, method: str, settings: dict[str, Any]) -> None:
    """Backwards in time, over several root cells of the path, in single precision, saved at every step."""
    bound = 1e-5 if "precision" in settings else 1e-12
    wanted = run(program, name, method, "discrete", **settings)[1]
    close(run(program, name, method, "checkpoint(3)", **settings)[1], wanted, bound)


@pytest.mark.parametrize("method", ["rk4(h=0.05)", "bosh3(rtol=1e-3)"])
def test_a_second_way_back(program: Any, method: str) -> None:
    x = torch.linspace(0.5, 1.5, 3 * COUNT, dtype=torch.float64).reshape(COUNT, 3).requires_grad_()
    s = ndl.solve(program.Lorenz().bind(x=x), span=(0, 1), method=method, save="end", backend="cpu",
                  gradient="checkpoint(4)")  # fmt: skip
    first, second = (torch.autograd.grad(s.final.x.sum(), x, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=1e-13, atol=0)


@pytest.mark.parametrize(("name", "method"), [("Lorenz", "dopri5(rtol=1e-5)"), ("Scalar", "sri(rtol=1e-2)")])
def test_torch_agrees(program: Any, name: str, method: str) -> None:
    wanted = run(program, name, method, "discrete", backend="torch", save="every 0.3")[1]
    close(run(program, name, method, "checkpoint(4)", save="every 0.3")[1], wanted, 1e-9)


@pytest.mark.parametrize(("name", "method"), [("Lorenz", "rk4(h=0.05)"), ("Additive", "sra1(h=0.1)")])
def test_finite_differences(program: Any, name: str, method: str) -> None:
    model, size = getattr(program, name)(), sum(SIZES[name])
    x = torch.linspace(0.5, 1.5, 16 * size, dtype=torch.float64).reshape(16, size).requires_grad_()
    move = torch.linspace(-1, 1, 16 * size, dtype=torch.float64).reshape(16, size)

    def loss(x: Tensor) -> Tensor:
        given = {"span": (0, 1), "save": "every 0.25", "backend": "cpu", "gradient": "checkpoint(3)"}
        s = ndl.solve(model.bind(x=x), method=method, **given)
        return s.x.values.square().sum()

    (g,) = torch.autograd.grad(loss(x), x)
    with torch.no_grad():
        rate = (loss(x + 1e-6 * move) - loss(x - 1e-6 * move)) / 2e-6
    assert float((g * move).sum()) == pytest.approx(float(rate), rel=1e-7)


@pytest.mark.parametrize(("name", "method"), [("Lorenz", "bosh3(rtol=1e-2)"), ("Node", "rk4(steps=4)")])
def test_the_interpreter_agrees(name: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, kernels = ndl.loads(SOURCE), {}
    build = Kernels.kernel

    def noted(self: Kernels, request: Any, kept: Any) -> Any:
        found = build(self, request, kept)
        kernels[found[0].name] = found[0]
        return found

    def interpreted(self: Compiled, tensors: dict[str, Tensor], members: int, threads: Any = None) -> None:
        flat = {b: tensors[b].detach().numpy().reshape(-1) for b in self.program.buffers}
        interpret.run(kernels[self.program.symbol], flat, members)

    monkeypatch.setattr(Kernels, "kernel", noted)
    monkeypatch.setattr(ode, "portions", lambda *_: 1)
    given = {"count": 3, "span": (0, 0.2), "save": "every 0.1"}
    wanted = run(program, name, method, "discrete", **given)[1]
    monkeypatch.setattr(Compiled, "run", interpreted)
    close(run(program, name, method, "checkpoint(2)", **given)[1], wanted, 1e-11)


def test_triton_agrees(tmp_path: Path) -> None:
    """Its kernels, interpreted by a process of their own, take several stretches."""
    by_triton("triton_checkpoints_worker.py", tmp_path)
    found = np.load(tmp_path / "found.npz")
    keys = [key for key in found.files if "/triton/" in key]
    assert len(keys) > 10
    for key in keys:
        wanted = found[key.replace("/triton/", "/cpu/")]
        bound = 1e-12 * float(np.abs(wanted).max())
        np.testing.assert_allclose(found[key], wanted, rtol=0, atol=bound, err_msg=key)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("name", "method", "budgets"),
    [("Node", "rk4(h=0.02)", (9e3, 2e4, 1e8)), ("Lorenz", "tsit5(rtol=1e-8)", (5e4, 7e4, 1e8))],
)
def test_a_budget_in_bytes(
    program: Any, name: str, method: str, budgets: tuple[float, ...], rooms: Rooms
) -> None:
    """A run that fits is taken again once, or not at all where that is known beforehand."""
    wanted = run(program, name, method, "discrete")[1]
    launches = []
    for size in budgets:
        rooms.launches = 0
        close(run(program, name, method, f"checkpoint(memory={size})")[1], wanted, 1e-12)
        launches.append(rooms.launches)
    assert launches == sorted(launches, reverse=True) and launches[1] > 2
    assert launches[-1] == (0 if "h=" in method else 2)


@pytest.mark.parametrize("save", ["end", "every 0.3"])
def test_layers_kept_over_several_stretches(program: Any, save: str, rooms: Rooms) -> None:
    """Of adaptive steps, too: those of trajectories that have ended are blank."""
    s, wanted = run(program, "Node", "bosh3(rtol=1e-7)", "discrete", save=save)
    assert len(set(s.stats.steps.tolist())) > 1
    close(run(program, "Node", "bosh3(rtol=1e-7)", "checkpoint(memory=2e5)", save=save)[1], wanted, 1e-12)
    assert rooms.kept > 0 and rooms.launches > 2 and rooms.rows < int(s.stats.steps.max())


def test_a_budget_that_is_too_small(program: Any) -> None:
    for backend in ("cpu", "torch"):
        with pytest.raises(NDLError, match=r"too little: the way back takes") as found:
            run(program, "Lorenz", "rk4(h=0.1)", "checkpoint(memory=100)", backend=backend)
        need = found.value.diagnostics[0].help or ""
        asked = need.partition("`")[2].partition("`")[0]
        run(program, "Lorenz", "rk4(h=0.1)", asked, backend=backend)  # what the help says is enough


def test_a_budget_by_torch(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer bytes are more stretches, each taken again once."""
    counts: list[int] = []
    plain = gradients._stretches

    def noted(*given: Any) -> int:
        counts.append(plain(*given))
        return counts[-1]

    monkeypatch.setattr(gradients, "_stretches", noted)
    wanted = run(program, "Node", "rk4(h=0.1)", "discrete", backend="torch")[1]
    for size in ("1e9", "1e5", "5e4"):
        got = run(program, "Node", "rk4(h=0.1)", f"checkpoint(memory={size})", backend="torch")[1]
        close(got, wanted, 1e-12)
    assert counts[0] == 1 < counts[1] < counts[2]


@pytest.mark.parametrize("method", ["rk4(h=0.001)", "dopri5(rtol=1e-6)"])
def test_a_tape_that_does_not_fit(program: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda device: 1e5)
    monkeypatch.setattr(memory, "SMALL", 0)
    with pytest.raises(NDLError, match="of memory are free") as found:
        run(program, "Lorenz", method, "discrete")
    assert "checkpoint(memory=5e+04)" in (found.value.diagnostics[0].help or "")
    run(program, "Lorenz", method, "checkpoint(memory=5e+04)")


def test_free_memory_is_known() -> None:
    found = memory.free(torch.device("cpu"))
    assert found is None or found > 1e6


@pytest.mark.parametrize("wrong", ["checkpoint", "checkpoint(0)", "checkpoint(bytes=3)", "discrete(3)"])
def test_what_makes_no_sense(program: Any, wrong: str) -> None:
    with pytest.raises(NDLError, match="checkpoint"):
        run(program, "Lorenz", "rk4(h=0.5)", wrong)
