"""Events and failures in kernels against closed forms, torch's runs and the kernel interpreter."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.kernels.interpret import run
from ndl.compiler.kernels.math import expand
from ndl.compiler.kernels.passes import simplify
from ndl.runtime.failures import SolveFailure
from ndl.runtime.kernels import ode

import ndl
from ndl.host.kernels import Kernels

SOURCE = """
model Ball:
    param g = 9.81
    param e = 0.8
    state h = 10.0
    state v = 0.0
    h' = v
    v' = -g
    when falling(h): v <- -e*v

model Touch:
    param g = 9.81
    state h = 10.0
    state v = 0.0
    h' = v
    v' = -g
    when falling(h): stop "it has landed"

model Waves:
    param w = 3.0
    state x = 0.0
    state q: R[2] = [0.0, 0.0]
    state both = 0.0
    x' = 1
    when falling(sin(w*x)): q <- q + [1, 0]
    when rising(sin(w*x)): q <- q + [0, x]
    when crossing(sin(w*x)): both <- both + 1

model Dosed:
    param k = 1.0
    param every_so = 0.3
    param low = 0.4
    state c = 1.0
    state doses = 0.0
    c' = -k*c
    when every every_so: c <- c + 0.5
    when falling(c - low): doses <- doses + 1
    require doses < 20

model Together:
    param a = 1.0
    state x = 0.0
    state y = 0.0
    x' = a
    when rising(x - 1): y <- y + 1
    when rising(2*x - 2): y <- y*10
    when every 0.3: y <- y + 0.5

model Endless:
    param a = 1.0
    state x = 0.0
    x' = a
    when rising(x - 1): x <- -1
    when falling(x): x <- 2

model Blow:
    param a = 1.0
    state x = 1.0
    state y = 1.0
    y' = -y
    x' = a*x^2

model Root:
    param a = 1.0
    state x = 1.0
    x' = -a*sqrt(x - 0.5)/(x + 1) - a
"""

COUNT = 18


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def spread(low: float, high: float) -> torch.Tensor:
    return torch.linspace(low, high, COUNT, dtype=torch.float64)


def solved(made: Any, method: str, backend: str, **settings: Any) -> Any:
    return ndl.solve(
        made, method=method, backend=backend, **{"span": (0, 4), "save": "every 0.25", **settings}
    )


def both(make: Any, method: str, **settings: Any) -> tuple[Any, Any]:
    return solved(make(), method, "torch", **settings), solved(make(), method, "cpu", **settings)


def alike(a: Any, b: Any, tolerance: float = 1e-10) -> None:
    """The same accepted steps, saved times and values, and events."""
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    torch.testing.assert_close(a.t, b.t, rtol=tolerance, atol=tolerance)
    assert torch.equal(a.valid, b.valid) and torch.equal(a.events.index, b.events.index)
    torch.testing.assert_close(a.events.t, b.events.t, rtol=tolerance, atol=tolerance, equal_nan=True)
    torch.testing.assert_close(a.final.t, b.final.t, rtol=tolerance, atol=tolerance)
    for name in a.names():
        torch.testing.assert_close(a[name].values, b[name].values, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- events


@pytest.mark.parametrize("method", ["tsit5(rtol=1e-9)", "rk4(h=0.05)", "rodas5(rtol=1e-4)"])
def test_bouncing_balls(program: Any, method: str) -> None:
    """First against h(t) = h0 - g t^2/2 and its images, whose flights last 2 e^n sqrt(2 h0/g)."""
    e = spread(0.5, 0.9)
    a, b = both(lambda: program.Ball().bind(e=e), method)
    alike(a, b)
    first = (20 / 9.81) ** 0.5
    exact = [first, *(first * (1 + 2 * sum(e**k for k in range(1, n))) for n in (2, 3))]
    for n, time in enumerate(exact):
        there = (
            torch.isfinite(b.events.t[:, n]) if b.events.t.shape[1] > n else torch.zeros(COUNT, dtype=bool)
        )
        torch.testing.assert_close(b.events.t[there, n], (0 * e + time)[there], rtol=1e-9, atol=1e-9)
        assert bool((there == (0 * e + time < 4)).all())


def test_continuous_output_and_steps_of_runs_with_events(program: Any) -> None:
    a, b = both(lambda: program.Ball().bind(e=spread(0.5, 0.9)), "tsit5(rtol=1e-7)", save="steps")
    alike(a, b, 1e-8)
    torch.testing.assert_close(a.steps.t, b.steps.t, rtol=1e-9, atol=1e-9, equal_nan=True)
    times = torch.linspace(0, 4, 33, dtype=torch.float64)
    torch.testing.assert_close(a.v(times), b.v(times), rtol=1e-8, atol=1e-8)
    few = solved(program.Ball().bind(e=spread(0.5, 0.9)), "tsit5(rtol=1e-7)", "cpu", save="end")
    torch.testing.assert_close(few.steps.h, b.steps.h, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("save", ["every 0.25", "end", "steps"])
def test_a_stop_ends_each_trajectory_at_its_own_time(program: Any, save: str) -> None:
    h = spread(5, 90)
    a, b = both(lambda: program.Touch().bind(h=h), "tsit5(rtol=1e-7)", save=save)
    alike(a, b, 1e-9)
    exact = torch.sqrt(2 * h / 9.81).clamp(max=4)
    torch.testing.assert_close(b.final.t, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["tsit5(rtol=1e-7, hmax=0.4)", "heun(h=0.07)"])
def test_events_of_every_direction(program: Any, method: str) -> None:
    a, b = both(lambda: program.Waves().bind(w=spread(2, 5)), method)
    alike(a, b)
    one = solved(program.Waves(), method, "cpu", span=(0, 7))
    roots = torch.arange(1, 7, dtype=torch.float64) * np.pi / 3
    torch.testing.assert_close(one.events.of(2), roots, rtol=0, atol=1e-12)
    torch.testing.assert_close(one.events.of(0), roots[::2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["tsit5(rtol=1e-7)", "midpoint(h=0.07)"])
def test_events_at_regular_times_and_roots_between(program: Any, method: str) -> None:
    """The period differs by trajectory; a dose takes the guard back across zero."""

    def make() -> Any:
        return program.Dosed().bind(every_so=spread(0.2, 1.1), k=spread(1.5, 2.5))

    alike(*both(make, method))
    alike(*both(make, method, span=(4, 0)))


def test_simultaneous_events_fire_in_file_order(program: Any) -> None:
    a, b = both(lambda: program.Together().bind(a=spread(0.5, 1.0)), "tsit5(rtol=1e-7)")
    alike(a, b)
    assert b.events.index[-1, :6].tolist() == [2, 2, 2, 0, 1, 2] and float(b.y.values[-1, 5]) == 25.5


def test_the_kernel_interpreter_gives_the_same(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so does single precision, to its own accuracy."""

    def make() -> Any:
        return program.Ball().bind(e=spread(0.5, 0.9)[:3])

    wanted = solved(make(), "tsit5(rtol=1e-4)", "cpu")
    single = solved(make(), "tsit5(rtol=1e-4)", "cpu", precision="float32")
    torch.testing.assert_close(single.events.t, wanted.events.t, rtol=2e-4, atol=2e-4, equal_nan=True)

    def interpreted(self: ode.KernelRun, made: Any, buffers: dict[str, torch.Tensor]) -> None:
        source = self.source
        assert isinstance(source, Kernels)
        flat = {name: b.view(-1).numpy() for name, b in buffers.items()}
        run(simplify(expand(source.kernel(self.request)[0])), flat, self.p.count)

    monkeypatch.setattr(ode.KernelRun, "_run", interpreted)
    alike(solved(make(), "tsit5(rtol=1e-4)", "cpu"), wanted)


# ---------------------------------------------------------------- failures


def failures(make: Any, method: str, **settings: Any) -> tuple[NDLError, NDLError]:
    found = []
    for backend in ("torch", "cpu"):
        with pytest.raises(NDLError) as caught:
            solved(make(), method, backend, **settings)
        found.append(caught.value)
    return found[0], found[1]


def cause(error: NDLError) -> SolveFailure:
    assert isinstance(error.__cause__, SolveFailure)
    return error.__cause__


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a run by torch that should go by a kernel an error."""
    from ndl.runtime import solve

    real = solve.by_kernel

    def only(problem: Any) -> Any:
        found = real(problem)
        assert found is not None or problem.backend == "torch", "a run by torch"
        return found

    monkeypatch.setattr(solve, "by_kernel", only)


def test_a_blow_up_is_told_per_trajectory(program: Any, no_torch: None) -> None:
    a = spread(0.05, 0.6)
    left, right = failures(lambda: program.Blow().bind(a=a), "tsit5(rtol=1e-6)")
    # of the digits of x there, none is good: it magnifies the rounding of t by 1e13
    digits = re.compile(r"`x` = [0-9.e+]+|h = [0-9.e-]+")
    assert digits.sub("", str(left)) == digits.sub("", str(right))
    told = right
    assert isinstance(told, ndl.RunFailed) and told.failed == cause(right).failed
    assert {f.member for f in told.failed} == {m for m in range(COUNT) if float(a[m]) * 4 > 1}
    for f in told.failed:
        assert f.status == "step" and f.time == pytest.approx(1 / float(a[f.member]), rel=1e-5)
    others = [m for m in range(COUNT) if float(a[m]) * 4 < 1]
    torch.testing.assert_close(told.partial.final.x[others], 1 / (1 - 4 * a[others]), rtol=1e-3, atol=0)
    assert bool(told.partial.valid[others].all()) and not bool(told.partial.valid[-1].all())


@pytest.mark.parametrize(
    ("model", "method", "settings"),
    [
        ("Blow", "rk4(h=0.1)", {"span": (0, 9)}),
        ("Blow", "tsit5(rtol=1e-6)", {"max_steps": 12, "save": "end"}),
        ("Root", "rk4(h=0.1)", {}),
        ("Root", "implicit_euler(h=0.1)", {}),
        ("Endless", "tsit5(rtol=1e-6)", {}),
        ("Endless", "rk4(h=0.1)", {}),
        ("Dosed", "rk4(h=0.1)", {"span": (0, 40)}),
    ],
)
def test_failures_read_as_those_of_torch(
    program: Any, no_torch: None, model: str, method: str, settings: dict[str, Any]
) -> None:
    def make() -> Any:
        found = getattr(program, model)()
        return found.bind(every_so=spread(0.9, 1.2)) if model == "Dosed" else found.bind(a=spread(0.5, 1.0))

    left, right = failures(make, method, **settings)
    assert str(left) == str(right)
    a, b = cause(left), cause(right)
    assert (a.status, a.member, a.state) == (b.status, b.member, b.state)
    assert b.member in [f.member for f in b.failed]
    mine, yours = (
        s.saved.t[s_.member][s.saved.valid[s_.member]] for s_, s in ((a, a.partial), (b, b.partial))
    )
    np.testing.assert_allclose(mine, yours, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_bounces_that_pile_up_are_told(backend: str) -> None:
    rates = "    h' = v\n    v' = -9.81\n"
    bounce = "    when falling(h):\n        v <- -0.8*v\n"
    ball = ndl.loads(f"model Ball:\n    state h = 1.0, v = 0.0\n{rates}{bounce}").models["Ball"]
    with pytest.raises(NDLError) as caught:
        ndl.solve(ball(), span=(0, 6), backend=backend)
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.text) == ("NDL654", "falling(h)")
    rest = np.sqrt(2 / 9.81) * (1 + 2 * 0.8 / 0.2)
    assert caught.value.partial.events.t[-1].item() == pytest.approx(rest, rel=1e-6)
