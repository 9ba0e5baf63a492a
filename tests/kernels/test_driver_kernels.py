"""Paths in time in kernels: against torch, closed forms and finite differences."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.kernels import interpret
from ndl.runtime.kernels import drivers as runtime_drivers
from ndl.runtime.kernels.cpu_engine import Program, load
from ndl.runtime.paths_in_time import PiecewiseCubic, hermite, linear, path, spline
from samples import evaluator

import ndl
from ndl.host.kernels import llvm_text

COUNT = 19
TS = torch.tensor([0.0, 0.3, 0.5, 1.1, 1.4, 2.0], dtype=torch.float64)

CONTROLLED = """
model Controlled:
    input X: R[3] on time
    param k = 0.3
    state z: R[2] = [1, 0.5]
    const A = [[0, -1], [1, 0]]
    dz = (A @ z)*dX[0] + k*z*dX[1] + z*X[2]*dt
"""

NEURAL = """
model Neural:
    input X: R[4] on time
    state z: R[8] = zeros(8)
    net F: R[8] -> R[32] = MLP(width=32, depth=1)
    dz = tanh(reshape(F(z), [8, 4])) @ dX
"""


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


Make = Callable[..., PiecewiseCubic]


def run(
    text: str, make: Make, xs: torch.Tensor, backend: str, method: str, family: bool = True, **settings: Any
) -> list[torch.Tensor]:
    """Saved values, numbers of steps, and gradients by the start, the values at the knots and all weights."""
    (found,) = ndl.loads(text).models.values()
    v, model = xs.clone().requires_grad_(True), found()
    size = model.STATES[0].shape[0]
    x0 = normal(COUNT, size, seed=2).requires_grad_(True)
    weights = [w for name, w in model.named_parameters() if "." in name or name == "k"]
    ts = TS if v.shape[-2] == len(TS) else torch.linspace(0, 2, v.shape[-2], dtype=torch.float64)
    s = ndl.solve(
        model.bind(X=make(ts, v, family=family), z=x0),
        method=method, backend=backend, gradient="discrete",
        **{"span": (0, 2), "save": "every 0.4", **settings},
    )  # fmt: skip
    loss = (s.z.values**2).sum() + s.final.z.sum()
    gradients = torch.autograd.grad(loss, [x0, v, *weights])
    return [s.z.values.detach(), torch.as_tensor(s.stats.steps, dtype=torch.float64), *gradients]


def compare(
    got: list[torch.Tensor], wanted: list[torch.Tensor], of_values: float, of_gradients: float
) -> None:
    assert torch.equal(got[1], wanted[1])
    for k, (a, b) in enumerate(zip(got, wanted, strict=True)):
        bound = of_gradients if k > 1 else of_values
        assert float((a - b).abs().max()) <= bound * float(b.abs().max()), k


# ---------------------------------------------------------------- the pieces


@pytest.mark.parametrize("knots", ["even", "uneven"])
@pytest.mark.parametrize("own", [True, False])
def test_a_path_at_any_time(knots: str, own: bool) -> None:
    """Inside, outside, on knots and beside them, by machine code and by the interpreter."""
    ts = torch.linspace(-1, 2, 13, dtype=torch.float64) if knots == "even" else TS
    near = torch.cat([ts, ts - 1e-9, ts + 1e-9, ts - 3e-16])
    at = torch.cat([near, torch.linspace(-1.7, 2.9, 70, dtype=torch.float64)])
    count = len(at)
    xs = normal(count, len(ts), 2) if own else normal(len(ts), 2)
    X = hermite(ts, xs, family=own)
    wanted = torch.stack([X(at, order) for order in range(5)])  # [5, count, 2]
    c = X.coefficients
    tables = {
        "pieces": torch.tensor([0, len(ts) - 1, 0], dtype=torch.int32),
        "knots": runtime_drivers.knots_of(X, torch.empty(0, dtype=torch.float64)),
        "drivers" if own else "shared_drivers": (c.reshape(count, -1).t() if own else c).contiguous(),
        "at": at,
    }
    kernel = evaluator(own)
    names = tuple(b.name for b in kernel.buffers)
    out = {way: torch.zeros(10, count, dtype=torch.float64) for way in ("machine", "interpreter")}
    program = Program(llvm_text(kernel, 8), kernel.name, names, lanes=8)
    load(program).run({**tables, "out": out["machine"]}, count)
    flat = {k: v.reshape(-1).numpy() for k, v in {**tables, "out": out["interpreter"]}.items()}
    interpret.run(kernel, flat, count)
    for found in out.values():
        got = found.reshape(5, 2, count).permute(0, 2, 1)
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-11)


# ---------------------------------------------------------------- steps by their errors


GROWING = """
model Growing:
    input X: R on time
    state z = 1.0
    dz = 0.3*z*dX
"""


@pytest.mark.parametrize("make", [hermite, spline])
@pytest.mark.parametrize(("method", "tight"), [("tsit5", 1e-8), ("rodas5", 1e-7)])
def test_kinks_at_knots_cost_no_accuracy(make: Make, method: str, tight: float) -> None:
    """z = exp(0.3 (X - X(0))), there and back; steps end at knots, by both backends alike."""
    X = make(TS, normal(len(TS)))
    exact = torch.exp(0.3 * (X(TS[-1]) - X(TS[0])))
    model, counts = ndl.loads(GROWING).Growing(), []
    for backend in ("cpu", "torch"):
        settings = {"method": f"{method}(rtol=1e-9, atol=1e-9)", "backend": backend}
        there = ndl.solve(model.bind(X=X), span=(0, 2), save="steps", **settings)
        torch.testing.assert_close(there.final.z, exact, rtol=tight, atol=0)
        assert bool(torch.isin(TS, there.steps.t).sum() >= len(TS) - 1)
        back = ndl.solve(model.bind(X=X, z=exact), span=(2, 0), save="end", **settings)
        torch.testing.assert_close(back.final.z, torch.ones_like(exact), rtol=tight, atol=0)
        counts.append([int(s.stats.steps) for s in (there, back)])
    assert counts[0] == counts[1]


def test_steps_over_many_knots_do_not_stop_at_each() -> None:
    ts = torch.linspace(0, 2, 201, dtype=torch.float64)
    model = ndl.loads(GROWING).Growing().bind(X=spline(ts, torch.sin(ts)))
    steps = [
        int(ndl.solve(model, method="tsit5(rtol=1e-4)", span=(0, 2), save="end", backend=b).stats.steps)
        for b in ("cpu", "torch")
    ]
    assert steps[0] == steps[1] < 20


# ---------------------------------------------------------------- fixed steps


@pytest.mark.parametrize("make", [linear, hermite, spline])
@pytest.mark.parametrize("family", [True, False])
def test_fixed_steps(make: Make, family: bool) -> None:
    """A path for each trajectory and one for all, whose knots lie inside of steps; corners cut them."""
    xs = normal(COUNT, len(TS), 3) if family else normal(len(TS), 3)
    more = {"save": "end"} if make is linear else {}
    pair = [
        run(CONTROLLED, make, xs, backend, "rk4(steps=7)", family, **more) for backend in ("cpu", "torch")
    ]
    compare(*pair, 1e-12, 1e-9)


def test_a_run_backwards_in_time() -> None:
    xs = normal(COUNT, len(TS), 3)
    settings = {"span": "2..0", "save": "[1.7, 1.1, 0.2, 0]"}
    pair = [run(CONTROLLED, hermite, xs, b, "bosh3(steps=9)", **settings) for b in ("cpu", "torch")]
    compare(*pair, 1e-12, 1e-9)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_steps_that_end_on_kinks(precision: str) -> None:
    """Steps from knot to knot of a straight path: which piece the last stage takes does not hang on rounding,
    nor on the precision in which a time is known."""
    xs = normal(COUNT, 21, 3)
    pair = [
        run(CONTROLLED, linear, xs, backend, "rk4(h=0.1)", save="end", precision=precision)
        for backend in ("cpu", "torch")
    ]
    single = precision == "float32"
    compare(*pair, 1e-5 if single else 1e-12, 1e-4 if single else 1e-9)


def test_gradients_against_finite_differences() -> None:
    """By values at the knots, by the kernel alone."""
    xs, move = normal(COUNT, len(TS), 3), normal(COUNT, len(TS), 3, seed=5)

    def loss(s: float) -> float:
        values = run(CONTROLLED, spline, xs + s * move, "cpu", "rk4(steps=7)", save="end")[0]
        return float((values**2).sum() + values.sum())

    got = float((run(CONTROLLED, spline, xs, "cpu", "rk4(steps=7)", save="end")[3] * move).sum())
    h = 1e-4
    by_five = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    assert abs(got - by_five) < 1e-9 * abs(got)


def test_the_closed_form_of_a_linear_equation() -> None:
    """dz = A z dX0 + z dX1 / 2 turns z by the rise of X0 and scales it by exp of half the rise of X1; the
    error is of order 4."""
    text = CONTROLLED.replace("k*z*dX[1] + z*X[2]*dt", "0.5*z*dX[1]")
    xs = normal(COUNT, len(TS), 3)
    rise = xs[:, -1] - xs[:, 0]
    turn = torch.stack(
        [torch.cos(rise[:, 0]), -torch.sin(rise[:, 0]), torch.sin(rise[:, 0]), torch.cos(rise[:, 0])], -1
    ).reshape(COUNT, 2, 2)
    exact = (turn @ normal(COUNT, 2, seed=2)[..., None])[..., 0] * torch.exp(rise[:, 1:2] / 2)
    errors = []
    for steps in (40, 80):
        model = ndl.loads(text.replace("    param k = 0.3\n", "")).Controlled()
        model = model.bind(X=spline(TS, xs, family=True), z=normal(COUNT, 2, seed=2))
        s = ndl.solve(model, span=(0, 2), method=f"rk4(steps={steps})", backend="cpu", save="end")
        errors.append(float((s.final.z - exact).abs().max()))
    assert errors[1] < errors[0] / 12 and errors[1] < 1e-3


# ---------------------------------------------------------------- adaptive steps


def smooth(ts: torch.Tensor, v: torch.Tensor, family: bool) -> PiecewiseCubic:
    """Pieces that together are one cubic, of v[..., 0, :]: nothing tells a solver where the knots are."""
    first, t = v[..., :1, :], ts[:, None]
    values = first * (1 + t - t**2 / 2 + t**3 / 9)
    slopes = first * (1 - t + t**2 / 3)
    return hermite(ts, values, slopes, family=family)


@pytest.mark.parametrize(
    ("family", "method"),
    [(True, "tsit5(rtol=1e-6, atol=1e-8, h0=0.1)"), (False, "dopri5(rtol=1e-7, atol=1e-8)")],
)
def test_adaptive_steps(family: bool, method: str) -> None:
    """The same accepted steps as torch, each trajectory its own. (After a step over a kink, or one whose
    error is far below the tolerance, sizes hang on the last digits of the error; here there are none.)"""
    xs = 0.5 * normal(COUNT, len(TS), 3) if family else 0.5 * normal(len(TS), 3)
    pair = [run(CONTROLLED, smooth, xs, backend, method, family) for backend in ("cpu", "torch")]
    compare(*pair, 1e-12, 1e-9)
    assert len(pair[0][1].unique()) > (1 if family else 0)


@pytest.mark.parametrize("make", [linear, spline])
def test_adaptive_steps_over_kinks(make: Make) -> None:
    """The exact solution exp(X(2) - X(0)) as the tolerance is made smaller; the path alone says how many
    members there are."""
    text = """
model Exponential:
    input X: R on time
    state z = 1.0
    dz = z*dX
"""
    xs, errors = 0.3 * normal(COUNT, len(TS)), []
    for tolerance in (1e-6, 1e-9):
        model = ndl.loads(text).Exponential().bind(X=make(TS, xs, family=True))
        method = f"tsit5(rtol={tolerance}, atol={tolerance})"
        backend = "torch" if make is linear else "cpu"  # where steps end at corners
        s = ndl.solve(model, span=(0, 2), method=method, backend=backend, save="end")
        errors.append(float((s.final.z / torch.exp(xs[:, -1] - xs[:, 0]) - 1).abs().max()))
    assert errors[0] < 1e-3 and errors[1] < errors[0] / 100


@pytest.mark.parametrize("method", ["rosenbrock23(rtol=1e-4)", "implicit_euler(steps=6)"])
def test_stiff_methods_follow_a_path(method: str) -> None:
    """With its derivative in time, and the gradient by a parameter."""
    found = []
    for backend in ("cpu", "torch"):
        k = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        X = smooth(TS, 0.4 * normal(COUNT, len(TS), 3), True)
        model = ndl.loads(CONTROLLED).Controlled().bind(X=X, z=normal(COUNT, 2, seed=2), k=k)
        s = ndl.solve(model, span=(0, 2), method=method, backend=backend, save="end", gradient="discrete")
        steps = torch.as_tensor(s.stats.steps, dtype=torch.float64)
        found.append([s.final.z.detach(), steps, torch.autograd.grad(s.final.z.sum(), k)[0]])
    compare(*found, 1e-9, 1e-8)


# ---------------------------------------------------------------- events and breaks

STRUCK = """
model Struck:
    input X: R[3] on time
    param k = 0.9
    state z: R[2] = [1, 0.2]
    z' = [z[1], -k*z[0] + X[0] + (if z[0] < 0.3 + 0.1*X[1] then 0.8 else -0.2)]
    when falling(z[0] - 0.1*X[0]):
        z <- [z[0] + 0.1, -0.8*z[1] + 0.1*X[1]]
    when every 0.45: z <- z + 0.05*k*X[2]
"""


@pytest.mark.parametrize("method", ["tsit5(rtol=1e-6)", "heun(steps=9)", "reversible_heun(steps=9)"])
def test_gradients_past_events_and_breaks(method: str) -> None:
    """Their places move with the path."""
    xs = 0.4 * normal(COUNT, len(TS), 3)
    pair = [run(STRUCK, smooth, xs, backend, method) for backend in ("cpu", "torch")]
    compare(*pair, 1e-11, 1e-8)


def test_gradients_past_events_against_finite_differences() -> None:
    xs, move = 0.4 * normal(COUNT, len(TS), 3), normal(COUNT, len(TS), 3, seed=5)

    def ends(s: float) -> torch.Tensor:
        return run(STRUCK, spline, xs + s * move, "cpu", "rk4(steps=50)", save="end")[0]

    got = (run(STRUCK, spline, xs, "cpu", "rk4(steps=50)", save="end")[3] * move).sum((1, 2))
    u, v = ends(1e-5), ends(-1e-5)
    rate = ((u**2).sum((1, 2)) + u.sum((1, 2)) - (v**2).sum((1, 2)) - v.sum((1, 2))) / 2e-5
    torch.testing.assert_close(got, rate, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- nets


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_neural_controlled_equation(precision: str) -> None:
    """A net's output as a matrix times dX: gradients by all weights, the start and the path."""
    xs = 0.5 * normal(COUNT, len(TS), 4)
    pair = [
        run(NEURAL, hermite, xs, backend, "rk4(steps=5)", save="end", precision=precision)
        for backend in ("cpu", "torch")
    ]
    single = precision == "float32"
    compare(*pair, 1e-5 if single else 1e-12, 1e-4 if single else 1e-9)


# ---------------------------------------------------------------- what is served, and what is not


def test_noise_beside_a_path() -> None:
    text = """
model Noisy:
    input X: R on time
    noise W: wiener[1]
    state z = 1.0
    param k = 0.5
    dz = k*z*dX - z*dt + 0.3*z*dW[0]
"""
    found = []
    for backend in ("cpu", "torch"):
        k = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        X = spline(TS, normal(COUNT, len(TS)), family=True)
        model = ndl.loads(text).Noisy().bind(X=X, k=k, z=normal(COUNT, seed=3))
        s = ndl.solve(
            model, span=(0, 2), method="euler_maruyama(steps=8)", backend=backend, save="end",
            gradient="discrete", seed=3,
        )  # fmt: skip
        found.append([s.final.z.detach(), torch.zeros(1), torch.autograd.grad(s.final.z.sum(), k)[0]])
    compare(*found, 1e-12, 1e-9)


def test_a_number_is_a_path_that_does_not_change() -> None:
    text = CONTROLLED.replace("z*X[2]*dt", "z*X[2]*dt - z*X[0]^2*dt")
    found = []
    for backend in ("cpu", "torch"):
        X = normal(COUNT, 3).requires_grad_(True)
        model = ndl.loads(text).Controlled().bind(X=X, z=normal(COUNT, 2, seed=2))
        s = ndl.solve(
            model, span=(0, 2), method="rk4(steps=3)", backend=backend, save="end", gradient="discrete"
        )
        found.append([s.final.z.detach(), torch.zeros(1), torch.autograd.grad(s.final.z.sum(), X)[0]])
    compare(*found, 1e-12, 1e-9)


@pytest.mark.parametrize(
    ("X", "method", "why"),
    [
        (path(lambda t: torch.stack([t, t, t], -1)), "rk4(steps=3)", "its path `X` is a function"),
        (
            spline(TS, normal(len(TS), 3).requires_grad_(True)),
            "implicit_euler(steps=3)",
            "gradients of paths go by explicit methods",
        ),
    ],
)
def test_what_kernels_refuse(X: Any, method: str, why: str) -> None:
    model = ndl.loads(CONTROLLED).Controlled().bind(X=X, z=normal(COUNT, 2, seed=2))
    with pytest.raises(NDLError, match=why):
        ndl.solve(model, span=(0, 2), method=method, backend="cpu", save="end", gradient="discrete")
    s = ndl.solve(model, span=(0, 2), method=method, save="end", gradient="discrete")
    assert bool(torch.isfinite(s.final.z).all())


def changed_between_runs() -> list[weakref.ref[Any]]:
    """A path's parts, after runs by kernels before and after changes of it."""
    X = hermite(TS.clone(), normal(COUNT, len(TS), 3), family=True)
    model = ndl.loads(CONTROLLED).Controlled().bind(X=X, z=normal(COUNT, 2, seed=2))

    def ends(span: tuple[float, float]) -> list[torch.Tensor]:
        return [
            ndl.solve(model, span=span, method="rk4(steps=7)", backend=b, save="end").final.z
            for b in ("cpu", "torch")
        ]

    first, plain = ends((0, 2))
    torch.testing.assert_close(first, plain, rtol=1e-10, atol=1e-10)
    X.coefficients.mul_(0.5)
    X.ts.add_(0.05)
    for span in ((0, 2), (0, 1.7)):
        changed, plain = ends(span)
        torch.testing.assert_close(changed, plain, rtol=1e-10, atol=1e-10)
        assert not torch.allclose(changed, first, rtol=1e-3)
    return [weakref.ref(v) for v in (X, X.coefficients, X.ts)]


def test_a_second_run_heeds_what_has_changed_and_nothing_is_kept() -> None:
    held = changed_between_runs()
    gc.collect()
    assert [v() for v in held] == [None] * 3
