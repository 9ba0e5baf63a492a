"""100,000 paths of geometric Brownian motion by 1,000 steps of Euler and Maruyama in float32.

Everybody draws noise of their own, so that results are compared with the exact moments of the scheme, in
standard errors of the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.contest import PEER, RULER, USUAL, Call, Contestant, Work
from benchmarks.libraries import by_ndl, jax_on_all_cores
from benchmarks.rulers import build

PROGRAM = """
model GBM:
    param mu = 0.1, s = 0.4
    state x = 1.0
    noise W: wiener
    dx = mu*x*dt + s*x*dW
"""

KEY = np.array([7, 11], dtype=np.uint32)


@dataclass(frozen=True)
class Problem:
    """dx = mu x dt + s x dW from x = 1 over 0..1; results are final values [paths]."""

    paths: int = 100_000
    steps: int = 1_000
    mu: float = 0.1
    s: float = 0.4

    @property
    def h(self) -> float:
        return 1.0 / self.steps

    def error(self, result: Any) -> float:
        """The larger deviation of the first two moments, in standard errors."""
        x = np.asarray(result, dtype=np.float64).reshape(-1)
        if x.shape != (self.paths,):
            raise ValueError(f"{x.shape} final values")
        growth = 1 + self.mu * self.h
        moments = (x, growth**self.steps), (x**2, (growth**2 + self.s**2 * self.h) ** self.steps)
        return float(max(abs(v.mean() - m) / (v.std() / self.paths**0.5) for v, m in moments))


def works(quick: bool = False, backends: Sequence[str | None] = (None,)) -> list[Work]:
    p = Problem(paths=2_000, steps=100) if quick else Problem()
    contestants = [
        *_ndl(p, backends),
        Contestant("torchsde, euler", USUAL, lambda: _torchsde(p, hint=False)),
        Contestant("torchsde, euler, told dt", PEER, lambda: _torchsde(p, hint=True)),
        Contestant("torch, a loop", PEER, lambda: _torch_loop(p)),
        Contestant("diffrax, euler, unsafe path", PEER, lambda: _diffrax(p, tree=False)),
        Contestant("diffrax, euler, virtual tree", PEER, lambda: _diffrax(p, tree=True)),
        Contestant("jax, scan, a device a core", PEER, lambda: _jax_scan(p)),
        Contestant("C lanes", RULER, lambda: _lanes(p)),
    ]
    title = f"Geometric Brownian motion, {p.paths:,} paths × {p.steps:,} steps, float32"
    name = "deviation of the first two moments of x(1), in standard errors"
    return [Work(title, contestants, p.error, name, 4.5, statistical=True)]


def _ndl(p: Problem, backends: Sequence[str | None]) -> list[Contestant]:
    import ndl

    def by(label: str, **noise: float) -> list[Contestant]:
        def call(model: Any, settings: dict[str, Any]) -> Any:
            s = ndl.solve(
                model,
                span=(0, 1),
                method=f"euler_maruyama(steps={p.steps})",
                save="end",
                ensemble=p.paths,
                seed=1,
                precision="float32",
                gradient="none",
                **noise,
                **settings,
            )
            return s.final["x"]

        return by_ndl(PROGRAM, backends, call, lambda model: model(mu=p.mu, s=p.s), label)

    return [*by("NDL, euler_maruyama"), *by("NDL, with a `noise_step`", noise_step=p.h)]


def _torchsde(p: Problem, hint: bool) -> Call:
    import torch
    import torchsde

    class Equation(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Any, x: Any) -> Any:
            return p.mu * x

        def g(self, t: Any, x: Any) -> Any:
            return p.s * x

    equation, start, t = Equation(), torch.ones(p.paths, 1), torch.tensor([0.0, 1.0])

    def call() -> Any:
        path = torchsde.BrownianInterval(0.0, 1.0, size=start.shape, dt=p.h) if hint else None
        with torch.no_grad():
            return torchsde.sdeint(equation, start, t, bm=path, method="euler", dt=p.h)[-1, :, 0]

    return call


def _torch_loop(p: Problem) -> Call:
    import torch

    drift, spread = 1 + p.mu * p.h, p.s * p.h**0.5

    def call() -> Any:
        x, z = torch.ones(p.paths), torch.empty(p.paths)
        for _ in range(p.steps):
            x.mul_(z.normal_().mul_(spread).add_(drift))
        return x

    return call


def _diffrax(p: Problem, tree: bool) -> Call:
    jax = jax_on_all_cores()
    import diffrax
    import jax.numpy as jnp

    one = jnp.float32(1)

    def path(key: Any) -> Any:
        noise = (
            diffrax.VirtualBrownianTree(0.0, 1.0, tol=p.h / 2, shape=(), key=key)
            if tree
            else diffrax.UnsafeBrownianPath(shape=(), key=key)
        )
        drift = diffrax.ODETerm(lambda t, x, args: p.mu * x)
        terms = diffrax.MultiTerm(drift, diffrax.ControlTerm(lambda t, x, args: p.s * x, noise))
        solved = diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            *(0.0, 1.0, p.h, one),
            max_steps=p.steps + 1,
            adjoint=diffrax.ForwardMode(),
        )
        assert solved.ys is not None
        return solved.ys[-1]

    count = jax.local_device_count()
    keys = jax.random.split(jax.random.key(1), (count, p.paths // count))
    run = jax.pmap(jax.vmap(path))
    return lambda: np.asarray(run(keys)).reshape(-1)


def _jax_scan(p: Problem) -> Call:
    jax = jax_on_all_cores()
    import jax.numpy as jnp

    count = jax.local_device_count()
    drift, spread = 1 + p.mu * p.h, p.s * p.h**0.5

    def some(key: Any) -> Any:
        def step(x: Any, key: Any) -> Any:
            return x * (drift + spread * jax.random.normal(key, x.shape)), None

        return jax.lax.scan(step, jnp.ones(p.paths // count), jax.random.split(key, p.steps))[0]

    keys = jax.random.split(jax.random.key(1), count)
    run = jax.pmap(some)
    return lambda: np.asarray(run(keys)).reshape(-1)


def _lanes(p: Problem) -> Call:
    from ctypes import c_float, c_int64

    made = build.library("brownian")
    words = np.zeros(4, np.uint32)
    made.philox_words(0, 0, build.pointer(np.zeros(2, np.uint32)), build.pointer(words))
    # the generator's published answer for counter and key 0
    if words.tolist() != [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]:
        raise RuntimeError("Philox gives other words than published")
    workers = build.pool()
    numbers = [c_float(v) for v in (1.0, p.mu * p.h, p.s * p.h**0.5)]

    def call() -> Any:
        out = np.empty(p.paths + 64, np.float32)  # whole blocks
        queue = np.zeros(1, np.int64)
        ends = [build.pointer(KEY), build.pointer(queue), build.pointer(out)]
        build.on_all(workers, lambda _: made.brownian(c_int64(p.paths), c_int64(p.steps), *numbers, *ends))
        return out[: p.paths]

    return call
