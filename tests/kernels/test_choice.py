"""What `backend = auto` takes for few trajectories: short runs go by torch, long ones by a kernel, and of a
long run torch has seen the beginning alone. Their last digits tell them apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ndl.runtime import solve
from ndl.runtime.stepping.loop import Loop

import ndl

SOURCE = """
model Lorenz:
    param rho = 28.0
    state x = 1.0, y = 1.0, z = 1.0
    x' = 10*(y - x)
    y' = x*(rho - z) - y
    z' = x*y - 8/3*z

model Ringing:
    state x: R[40] = 1.0
    x' = -x + sin(30*t)
"""


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def end(model: Any, backend: str, t: float, method: str, **settings: Any) -> torch.Tensor:
    s = ndl.solve(model, span=(0, t), method=method, save="end", backend=backend, **settings)
    return s.final.x  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("t", "method", "same"),
    [
        (20.0, "tsit5(rtol=1e-7)", "cpu"),
        (1.0, "tsit5(rtol=1e-7)", "torch"),
        (20.0, "rodas5(rtol=1e-5)", "cpu"),
        (20.0, "rk4(h=0.01)", "cpu"),
        (20.0, "tsit5(h=0.01)", "cpu"),
        (2.0, "rk4(h=0.01)", "torch"),
    ],
)
def test_long_runs_go_by_kernels(program: Any, t: float, method: str, same: str) -> None:
    model = program.Lorenz()
    found = {b: end(model, b, t, method) for b in ("auto", "cpu", "torch")}
    other = "torch" if same == "cpu" else "cpu"
    assert torch.equal(found["auto"], found[same])
    assert not torch.equal(found["auto"], found[other])


@pytest.mark.parametrize(
    "method", ["tsit5(h=0.01)", "bosh3(h=0.01)", "sdirk(h=0.01)", "rosenbrock23(h=0.01)", "taylor(h=0.01)"]
)
@pytest.mark.parametrize("save", ["steps", "end", "every 0.1"])
def test_fixed_steps_have_their_errors(program: Any, method: str, save: str) -> None:
    """A kernel makes no estimates of them: whoever asks gets torch's."""
    model = program.Lorenz(rho=torch.linspace(20, 28, 17, dtype=torch.float64))
    how: dict[str, Any] = {"span": (0, 0.2), "method": method}
    wanted = ndl.solve(model, save="steps", backend="torch", **how).steps.error
    found = ndl.solve(model, save=save, **how).steps.error
    assert wanted.shape == (17, 20) and bool((wanted > 0).all())
    # estimates are differences of nearly equal numbers; Newton's method begins elsewhere when steps are taken
    # again, and ends at a part of the tolerance
    rtol = 1e-5 if method.startswith("sdirk") else 1e-6
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=0)


def test_what_was_long_is_not_tried_again(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second long run is a kernel's from its start, with the same numbers; a short one is torch's, and
    the next is on trial again."""
    begun: list[str] = []
    by_torch = solve.by_torch
    monkeypatch.setattr(solve, "by_torch", lambda p: begun.append(p.method.name) or by_torch(p))
    method = "dopri5(rtol=1e-7)"
    model = program.Lorenz()
    long = [end(model, "auto", 20.0, method) for _ in range(3)]
    assert len(begun) == 1 and all(torch.equal(x, end(model, "cpu", 20.0, method)) for x in long)
    assert torch.equal(end(model, "auto", 1.0, method), end(model, "torch", 1.0, method))
    assert len(begun) == 3
    assert torch.equal(end(model, "auto", 20.0, method), long[0]) and len(begun) == 4


def test_what_is_large_stays(program: Any) -> None:
    model = program.Ringing()
    assert torch.equal(end(model, "auto", 9.0, "rk4(h=0.01)"), end(model, "torch", 9.0, "rk4(h=0.01)"))


def test_a_trial_is_over_with_the_run(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither later runs nor ways back are on trial, and a run that fails is told as ever."""
    given: list[int | None] = []
    real = Loop.run
    monkeypatch.setattr(Loop, "run", lambda loop: given.append(loop.left) or real(loop))
    model = program.Lorenz()
    end(model, "auto", 0.5, "tsit5(rtol=1e-7)")
    assert given == [256]
    end(model, "torch", 0.5, "tsit5(rtol=1e-7)")
    assert given == [256, None]
    with pytest.raises(ndl.NDLError, match="100 steps"):
        end(model, "auto", 50.0, "tsit5(rtol=1e-7)", max_steps=100)


def test_a_run_without_a_kernel_is_made_again_by_torch() -> None:
    """Only the attempt shows that there is none: corners of a path where steps are to end."""
    text = "model M:\n    input u: R on time\n    state x = 1.0\n    x' = -20*x + 50*sin(50*t) + u\n"
    model = ndl.loads(text).M().bind(u=lambda t, order=0: torch.sin(t))
    how = {"t": 20.0, "method": "tsit5(rtol=1e-7)"}
    assert torch.equal(end(model, "auto", **how), end(model, "torch", **how))
