"""A neural stochastic equation with diagonal noise, forward and backward, by Euler and by reversible Heun.

Everybody draws noise of their own: a gradient is one draw, and its error is the distance from the mean of
many such draws, in their standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contest import PEER, USUAL, Call, Contestant, Work
from benchmarks.libraries import by_ndl, jax_on_all_cores
from benchmarks.nets import Net, flat, in_jax, in_torch, into_ndl, learnable, module

PROGRAM = """
model Diffusion:
    calculus CALCULUS
    state x: R[8] = zeros(8)
    noise W: wiener[8]
    net f: R[8] -> R[8] = MLP(width=64, depth=2)
    net g: R[8] -> R[8] = MLP(width=64, depth=2)
    dx = f(x)*dt + 0.3*sigmoid(g(x))*dW
"""

DRIFT, NOISE = Net((8, 64, 64, 8), seed=3), Net((8, 64, 64, 8), seed=4)
Field = Callable[[Any], Any]
State = tuple[Any, ...]


@dataclass(frozen=True)
class Problem:
    """dx = f(x) dt + 0.3 sigmoid(g(x)) dW over 0..1, float32; the loss is mean(x(1)^2). Reversible Heun
    reads it as Stratonovich's, Euler as Itô's."""

    reversible: bool
    batch: int = 512
    steps: int = 100

    @property
    def h(self) -> float:
        return 1.0 / self.steps

    @cached_property
    def start(self) -> npt.NDArray[np.float32]:
        return np.random.default_rng(5).normal(size=(self.batch, 8)).astype(np.float32)

    @cached_property
    def draws(self) -> npt.NDArray[np.float64]:
        """Gradients of several batches, [12, weights]."""
        call = _torch_loop(self, compiled=False)
        return np.stack([flat(call()) for _ in range(12)])

    def error(self, result: Any) -> float:
        away = (flat(result) - self.draws.mean(0)) / self.draws.std(0, ddof=1)
        return float(np.sqrt((away**2).mean()))

    def begun(self, f: Field, g: Field, x: Any) -> State:
        """What a step of the scheme hands on: x, and for reversible Heun its shadow with the rates there."""
        return (x, x, f(x), g(x)) if self.reversible else (x,)

    def step(self, f: Field, g: Field, state: State, dw: Any) -> State:
        """A step with the noise's increment, for the loops that are written out; of any library's arrays."""
        if not self.reversible:
            (x,) = state
            return (x + self.h * f(x) + g(x) * dw,)
        x, y, fy, gy = state
        y = 2 * x - y + self.h * fy + gy * dw
        f1, g1 = f(y), g(y)
        return x + 0.5 * (self.h * (fy + f1) + (gy + g1) * dw), y, f1, g1


def works(quick: bool = False, backends: Sequence[str | None] = (None,)) -> list[Work]:
    size = {"batch": 64, "steps": 10} if quick else {}
    return [_work(Problem(reversible, **size), backends) for reversible in (False, True)]


def _work(p: Problem, backends: Sequence[str | None]) -> Work:
    how = "reversible Heun" if p.reversible else "Euler"
    adjoint = Contestant("torchsde, adjoint, told dt", PEER, lambda: _torchsde(p, hint=True, adjoint=True))
    contestants = [
        *_ndl(p, backends),
        Contestant(f"torchsde, {how}", USUAL, lambda: _torchsde(p, hint=False)),
        Contestant(f"torchsde, {how}, told dt", PEER, lambda: _torchsde(p, hint=True)),
        *([adjoint] if p.reversible else []),
        Contestant("torch, a loop", PEER, lambda: _torch_loop(p, compiled=False)),
        Contestant("torch.compile, five steps at once", PEER, lambda: _torch_loop(p, compiled=True)),
        Contestant(f"diffrax, {how}, virtual tree", PEER, lambda: _diffrax(p)),
        Contestant("jax, scan", PEER, lambda: _jax_scan(p)),
    ]
    title = (
        f"Neural SDE, state 8, width 64 × {p.batch}, {p.steps} steps, {how}, forward and backward, float32"
    )
    name = "distance of the gradient from a mean of 12 batches, in standard deviations of a batch"
    return Work(title, contestants, p.error, name, 2.0, statistical=True)


def _ndl(p: Problem, backends: Sequence[str | None]) -> list[Contestant]:
    import torch

    import ndl

    method = "reversible_heun" if p.reversible else "euler_maruyama"
    text = PROGRAM.replace("CALCULUS", "stratonovich" if p.reversible else "ito")
    common = {"span": (0, 1), "method": f"{method}(steps={p.steps})", "save": "end", "precision": "float32"}

    def made(model: Any) -> Any:
        return into_ndl(model(x=torch.from_numpy(p.start)).float(), [DRIFT, NOISE])

    def by(gradient: str, label: str) -> list[Contestant]:
        def call(model: Any, settings: dict[str, Any]) -> Any:
            end = ndl.solve(model, **common, seed=1, gradient=gradient, **settings).final["x"]
            return torch.autograd.grad((end**2).mean(), learnable(model))

        return by_ndl(text, backends, call, made, label)

    found = by("discrete", f"NDL, {method}")
    return [*found, *by("reversible", f"NDL, {method}, run backwards")] if p.reversible else found


def _torchsde(p: Problem, hint: bool, adjoint: bool = False) -> Call:
    import torch
    import torchsde

    class Equation(torch.nn.Module):
        noise_type, sde_type = "diagonal", "stratonovich" if p.reversible else "ito"

        def __init__(self) -> None:
            super().__init__()
            self.drift, self.noise = module(DRIFT.leaves()), module(NOISE.leaves())

        def f(self, t: Any, x: Any) -> Any:
            return self.drift(x)

        def g(self, t: Any, x: Any) -> Any:
            return 0.3 * self.noise(x).sigmoid()

    equation, start, t = Equation(), torch.from_numpy(p.start), torch.tensor([0.0, 1.0])
    leaves = list(equation.parameters())
    how: dict[str, Any] = {"method": "reversible_heun" if p.reversible else "euler", "dt": p.h}
    if adjoint:
        how["adjoint_method"] = "adjoint_reversible_heun"
    solve = torchsde.sdeint_adjoint if adjoint else torchsde.sdeint

    def call() -> Any:
        path = torchsde.BrownianInterval(0.0, 1.0, size=start.shape, dt=p.h) if hint else None
        return torch.autograd.grad((solve(equation, start, t, bm=path, **how)[-1] ** 2).mean(), leaves)

    return call


def _torch_loop(p: Problem, compiled: bool) -> Call:
    import torch

    drift, noise = DRIFT.leaves(), NOISE.leaves()
    start = torch.from_numpy(p.start)

    def fields(drift: list[Any], noise: list[Any]) -> tuple[Field, Field]:
        return lambda x: in_torch(drift, x), lambda x: 0.3 * in_torch(noise, x).sigmoid()

    def several(state: State, dw: Any, drift: list[Any], noise: list[Any]) -> State:
        f, g = fields(drift, noise)
        for k in range(len(dw)):
            state = p.step(f, g, state, dw[k])
        return state

    steps = torch.compile(several) if compiled else several

    def call() -> Any:
        state = p.begun(*fields(drift, noise), start)
        # a compiler would need minutes for all of them at once
        for dw in (torch.randn(p.steps, p.batch, 8) * p.h**0.5).split(5):
            state = steps(state, dw, drift, noise)
        return torch.autograd.grad((state[0] ** 2).mean(), [*drift, *noise])

    return call


def _jax_fields(drift: Any, noise: Any) -> tuple[Field, Field]:
    import jax

    return lambda x: in_jax(drift, x), lambda x: 0.3 * jax.nn.sigmoid(in_jax(noise, x))


def _diffrax(p: Problem) -> Call:
    jax = jax_on_all_cores()
    import diffrax
    import lineax

    solver = diffrax.ReversibleHeun() if p.reversible else diffrax.Euler()

    def end(nets: Any, x: Any, key: Any) -> Any:
        tree = diffrax.VirtualBrownianTree(0.0, 1.0, tol=p.h / 2, shape=(8,), key=key)
        drift = diffrax.ODETerm(lambda t, x, nets: _jax_fields(*nets)[0](x))

        def diffusion(t: Any, x: Any, nets: Any) -> Any:
            return lineax.DiagonalLinearOperator(_jax_fields(*nets)[1](x))

        terms = diffrax.MultiTerm(drift, diffrax.ControlTerm(diffusion, tree))
        solved = diffrax.diffeqsolve(terms, solver, 0.0, 1.0, p.h, x, args=nets, max_steps=p.steps + 1)
        assert solved.ys is not None
        return solved.ys[-1]

    def loss(nets: Any, starts: Any, keys: Any) -> Any:
        return (jax.vmap(end, (None, 0, 0))(nets, starts, keys) ** 2).mean()

    keys = jax.random.split(jax.random.key(6), p.batch)
    run, nets = jax.jit(jax.grad(loss)), (DRIFT.weights, NOISE.weights)
    return lambda: [np.asarray(g) for net in run(nets, p.start, keys) for g in net]


def _jax_scan(p: Problem) -> Call:
    jax = jax_on_all_cores()

    def loss(nets: Any, start: Any, key: Any) -> Any:
        f, g = _jax_fields(*nets)

        def step(state: State, key: Any) -> tuple[State, None]:
            return p.step(f, g, state, p.h**0.5 * jax.random.normal(key, start.shape)), None

        state, _ = jax.lax.scan(step, p.begun(f, g, start), jax.random.split(key, p.steps))
        return (state[0] ** 2).mean()

    key = jax.random.key(7)
    run, nets = jax.jit(jax.grad(loss)), (DRIFT.weights, NOISE.weights)
    return lambda: [np.asarray(g) for net in run(nets, p.start, key) for g in net]
