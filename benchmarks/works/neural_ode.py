"""A neural ordinary equation, forward and backward: the gradient of a loss by the net's weights.

Once by 50 steps of the classical method, once with adaptive steps. Results are gradients, compared with a
finer solution in float64, so that discrete and continuous adjoints are held to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contest import PEER, RULER, USUAL, Call, Contestant, Missing, Work
from benchmarks.libraries import by_ndl, jax_on_all_cores
from benchmarks.nets import Net, distance, flat, in_jax, in_torch, into_ndl, learnable, module
from benchmarks.rulers import build

PROGRAM = """
model Flow:
    state x: R[8] = zeros(8)
    net f: R[8] -> R[8] = MLP(width=64, depth=2)
    x' = f(x)
"""


NET = Net((8, 64, 64, 8), seed=1)


@dataclass(frozen=True)
class Problem:
    """x' = f(x) over 0..1 in float32; the loss is mean(x(1)^2). `steps` of the classical method, or dopri5
    with a tolerance."""

    batch: int = 512
    steps: int | None = 50
    tolerance: float = 1e-5
    net: Net = NET

    @cached_property
    def start(self) -> npt.NDArray[np.float32]:
        return np.random.default_rng(2).normal(size=(self.batch, 8)).astype(np.float32)

    @cached_property
    def reference(self) -> npt.NDArray[np.float64]:
        import torch

        leaves = self.net.leaves(torch.float64)
        x, h = torch.tensor(self.start, dtype=torch.float64), 1 / 100

        def f(x: Any) -> Any:
            return in_torch(leaves, x)

        for _ in range(100):
            x = classical(f, x, h)
        return flat(torch.autograd.grad((x**2).mean(), leaves))

    def error(self, result: Any) -> float:
        return distance(flat(result), self.reference)


def classical(f: Callable[[Any], Any], x: Any, h: float) -> Any:
    """One step of Kutta's method of order 4."""
    a = f(x)
    b = f(x + h / 2 * a)
    c = f(x + h / 2 * b)
    return x + h / 6 * (a + 2 * (b + c) + f(x + h * c))


def works(quick: bool = False, backends: Sequence[str | None] = (None,)) -> list[Work]:
    fixed = Problem(batch=64, steps=10) if quick else Problem()
    adaptive = Problem(batch=64, steps=None) if quick else Problem(steps=None)
    shape = f"8–64–64–8 × {fixed.batch}, forward and backward, float32"
    by_steps = [
        *_ndl(fixed, backends),
        Contestant("torchdiffeq, rk4", USUAL, lambda: _torchdiffeq(fixed, adjoint=False)),
        Contestant("torchdiffeq, rk4, adjoint", PEER, lambda: _torchdiffeq(fixed, adjoint=True)),
        Contestant("diffrax, rk4, checkpoints", PEER, lambda: _diffrax(fixed, backsolve=False)),
        Contestant("diffrax, rk4, backsolve", PEER, lambda: _diffrax(fixed, backsolve=True)),
        Contestant("jax, scan, rk4", PEER, lambda: _jax_scan(fixed)),
        Contestant("C tiles, rk4", RULER, lambda: _tiles(fixed)),
    ]
    by_tolerance = [
        *_ndl(adaptive, backends),
        Contestant("torchdiffeq, dopri5", USUAL, lambda: _torchdiffeq(adaptive, adjoint=False)),
        Contestant("torchdiffeq, dopri5, adjoint", PEER, lambda: _torchdiffeq(adaptive, adjoint=True)),
        Contestant("torchode, dopri5", PEER, lambda: _torchode(adaptive)),
        Contestant("diffrax, dopri5, checkpoints", PEER, lambda: _diffrax(adaptive, backsolve=False)),
        Contestant("diffrax, dopri5, backsolve", PEER, lambda: _diffrax(adaptive, backsolve=True)),
    ]
    name = "relative distance of the gradient by the weights from a finer solution"
    how = f"rtol {adaptive.tolerance:g}"
    return [
        Work(f"Neural ODE {shape}, rk4, {fixed.steps} steps", by_steps, fixed.error, name, 1e-2, floor=1e-5),
        Work(f"Neural ODE {shape}, {how}", by_tolerance, adaptive.error, name, 1e-2, floor=1e-5),
    ]


def _ndl(p: Problem, backends: Sequence[str | None]) -> list[Contestant]:
    import torch

    import ndl

    tolerances = f"rtol={p.tolerance}, atol={p.tolerance}"
    how = f"rk4(steps={p.steps})" if p.steps else f"dopri5({tolerances})"
    common = {"span": (0, 1), "method": how, "save": "end", "gradient": "discrete", "precision": "float32"}

    def made(model: Any) -> Any:
        return into_ndl(model(x=torch.from_numpy(p.start)).float(), [p.net])

    def call(model: Any, settings: dict[str, Any]) -> Any:
        end = ndl.solve(model, **common, **settings).final["x"]
        return torch.autograd.grad((end**2).mean(), learnable(model))

    return by_ndl(PROGRAM, backends, call, made, f"NDL, {how.split('(')[0]}")


def _torchdiffeq(p: Problem, adjoint: bool) -> Call:
    import torch
    import torchdiffeq

    field = module(p.net.leaves())
    start, t = torch.from_numpy(p.start), torch.tensor([0.0, 1.0])
    solve = torchdiffeq.odeint_adjoint if adjoint else torchdiffeq.odeint

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.field = field

        def forward(self, t: Any, x: Any) -> Any:
            return self.field(x)

    how: dict[str, Any] = (
        {"method": "rk4", "options": {"step_size": 1 / p.steps}}
        if p.steps
        else {"method": "dopri5", "rtol": p.tolerance, "atol": p.tolerance}
    )
    rates, leaves = Field(), list(field.leaves)
    return lambda: torch.autograd.grad((solve(rates, start, t, **how)[-1] ** 2).mean(), leaves)


def _torchode(p: Problem) -> Call:
    import torch
    import torchode

    leaves = p.net.leaves()
    start = torch.from_numpy(p.start)
    t = torch.tensor([0.0, 1.0]).expand(p.batch, 2)
    term = torchode.ODETerm(lambda t, x: in_torch(leaves, x))
    controller = torchode.IntegralController(atol=p.tolerance, rtol=p.tolerance, term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), controller)

    def call() -> Any:
        solved = solver.solve(torchode.InitialValueProblem(start, t[:, 0], t[:, 1], t))
        return torch.autograd.grad((solved.ys[:, -1] ** 2).mean(), leaves)

    return call


def classical_of_diffrax() -> Any:
    """diffrax has no classical method, but takes a tableau."""
    import diffrax

    class Classical(diffrax.AbstractERK):
        tableau = diffrax.ButcherTableau(
            a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
            b_sol=np.array([1 / 6, 1 / 3, 1 / 3, 1 / 6]),
            b_error=np.zeros(4),
            c=np.array([0.5, 0.5, 1.0]),
        )
        interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

        def order(self, terms: Any) -> int:
            return 4

    return Classical()


def _diffrax(p: Problem, backsolve: bool) -> Call:
    jax = jax_on_all_cores()
    import diffrax

    term = diffrax.ODETerm(lambda t, x, leaves: in_jax(leaves, x))
    adjoint = diffrax.BacksolveAdjoint() if backsolve else diffrax.RecursiveCheckpointAdjoint()
    how: dict[str, Any] = (
        {"solver": classical_of_diffrax(), "dt0": 1 / p.steps, "max_steps": p.steps + 1}
        if p.steps
        else {
            "solver": diffrax.Dopri5(),
            "dt0": None,
            "stepsize_controller": diffrax.PIDController(rtol=p.tolerance, atol=p.tolerance),
        }
    )

    def loss(leaves: Any, start: Any) -> Any:
        solved = diffrax.diffeqsolve(term, t0=0.0, t1=1.0, y0=start, args=leaves, adjoint=adjoint, **how)
        assert solved.ys is not None
        return (solved.ys[-1] ** 2).mean()

    run = jax.jit(jax.grad(loss))
    return lambda: [np.asarray(g) for g in run(p.net.weights, p.start)]


def _jax_scan(p: Problem) -> Call:
    jax = jax_on_all_cores()
    steps = p.steps or 0

    def loss(leaves: Any, start: Any) -> Any:
        def step(x: Any, _: Any) -> Any:
            return classical(lambda y: in_jax(leaves, y), x, 1 / steps), None

        return (jax.lax.scan(step, start, length=steps)[0] ** 2).mean()

    run = jax.jit(jax.grad(loss))
    return lambda: [np.asarray(g) for g in run(p.net.weights, p.start)]


def _tiles(p: Problem) -> Call:
    from ctypes import c_float, c_int64

    if p.batch % 32 or p.net.sizes != (8, 64, 64, 8) or not p.steps:
        raise Missing("the ruler is for 8–64–64–8 and whole tiles of 32 samples")
    solve, workers, threads = build.library("neural_ode").neural_ode, build.pool(), build.cores()
    given = np.concatenate([w.reshape(-1) for w in p.net.weights])
    ends = [c_float(1 / p.steps), build.pointer(p.start), build.pointer(given)]

    def call() -> Any:
        sums = np.zeros((threads, given.size), np.float32)

        def some(k: int) -> None:
            place = [build.pointer(sums[k]), c_int64(k), c_int64(threads)]
            if solve(c_int64(p.batch), c_int64(p.steps or 0), *ends, *place):
                raise MemoryError

        build.on_all(workers, some)
        return [sums.sum(0)]

    return call
