"""Diffusion and Burgers' equations on a torus of 1024² points: 500 Euler steps in float32, order 2 in space.

Every contestant takes the same steps of the same scheme; the reference is that scheme in float64. Peers that
know no periodic axes have a ring of ghost points, copied after each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contest import NDL, PEER, USUAL, Call, Contestant, Work
from benchmarks.libraries import jax_on_all_cores

Floats = npt.NDArray[np.float64]

PROGRAM = """
domain Torus = periodic(x in 0..1, y in 0..1)

model Heat:
    const nu = {nu}
    state u: R on Torus = sin(2*pi*x)*cos(4*pi*y)
    u' = nu*lap(u)

model Burgers:
    const nu = {nu}
    state u: R on Torus = sin(2*pi*x)*cos(4*pi*y)
    state v: R on Torus = cos(2*pi*x)*sin(2*pi*y)
    u' = -u*dx(u) - v*dy(u) + nu*lap(u)
    v' = -u*dx(v) - v*dy(v) + nu*lap(v)
"""


@dataclass(frozen=True)
class Problem:
    """A grid of n x n points; results are the fields [fields, n, n] at the end."""

    model: str
    n: int = 1024
    steps: int = 500
    courant: float = 0.2  # nu h / dx^2
    speed: float = 0.1  # h / dx, for fields of size 1

    @property
    def width(self) -> float:
        return 1 / self.n

    @property
    def h(self) -> float:
        return self.speed * self.width

    @property
    def nu(self) -> float:
        return self.courant * self.width**2 / self.h

    @cached_property
    def start(self) -> Floats:
        x = np.arange(self.n)[:, None] * self.width
        y = np.arange(self.n)[None, :] * self.width
        u = np.sin(2 * np.pi * x) * np.cos(4 * np.pi * y)
        v = np.cos(2 * np.pi * x) * np.sin(2 * np.pi * y)
        return np.stack([u] if self.model == "Heat" else [u, v])

    @property
    def single(self) -> npt.NDArray[np.float32]:
        return self.start.astype(np.float32)

    @cached_property
    def reference(self) -> Floats:
        fields = self.start
        for _ in range(self.steps):
            fields = fields + self.h * self.rates(np, fields)
        return fields

    def rates(self, xp: Any, fields: Any) -> Any:
        """The right-hand sides by shifted copies, for any array library."""

        def moved(a: Any, k: int, axis: int) -> Any:
            return xp.roll(a, -k, axis)

        found = []
        for a in fields:
            ends = [moved(a, k, axis) for axis in (0, 1) for k in (-1, 1)]
            rate = self.nu / self.width**2 * (ends[0] + ends[1] + ends[2] + ends[3] - 4 * a)
            if self.model == "Burgers":
                slope = 1 / (2 * self.width)
                rate = rate - slope * (fields[0] * (ends[1] - ends[0]) + fields[1] * (ends[3] - ends[2]))
            found.append(rate)
        return xp.stack(found)

    def error(self, result: Any) -> float:
        return float(np.abs(np.asarray(result, dtype=np.float64) - self.reference).max())


def works(quick: bool = False, backends: Sequence[str | None] = (None,)) -> list[Work]:
    found = []
    for model in ("Heat", "Burgers"):
        p = Problem(model, 128, 50) if quick else Problem(model)
        contestants = [
            *[Contestant(_named(b), NDL, lambda p=p, b=b: _ndl(p, b)) for b in backends],
            Contestant("py-pde", USUAL, lambda p=p: _pypde(p)),
            Contestant("devito", PEER, lambda p=p: _devito(p)),
            Contestant("torch.compile, in place", PEER, lambda p=p: _compiled(p)),
            Contestant("torch, shifted copies", PEER, lambda p=p: _torch(p)),
            Contestant("jax", PEER, lambda p=p: _jax(p)),
        ]  # fmt: skip
        title = f"{model} on a torus of {p.n}², {p.steps} Euler steps, float32"
        found.append(Work(title, contestants, p.error, "max |u − the scheme in float64|", 1e-4))
    return found


def _named(backend: str | None) -> str:
    return "NDL" if backend is None else f"NDL, backend {backend}"


def _ndl(p: Problem, backend: str | None) -> Call:
    import torch

    import ndl

    grid = f"uniform({p.n}, {p.n})"
    model = ndl.loads(PROGRAM.format(nu=p.nu), grid=grid).models[p.model]()
    settings = {} if backend is None else {"backend": backend}

    def call() -> Any:
        s = ndl.solve(
            model, span=(0.0, p.steps * p.h), method=f"euler(steps={p.steps})", save="end", gradient="none",
            precision=torch.float32, **settings,
        )  # fmt: skip
        return torch.stack([s.final[name] for name in ("u", "v")[: len(p.start)]])

    return call


def _torch(p: Problem) -> Call:
    import torch

    start = torch.from_numpy(p.single)

    def call() -> Any:
        fields = start
        for _ in range(p.steps):
            fields = fields + p.h * p.rates(torch, fields)
        return fields

    return call


def _compiled(p: Problem) -> Call:
    """From one padded buffer into another and back, ghost points copied after each step."""
    import torch

    n = p.n

    def step(old: Any, new: Any) -> None:
        inner, slope = old[:, 1:-1, 1:-1], p.h / (2 * p.width)
        low, high = old[:, :-2, 1:-1], old[:, 2:, 1:-1]
        left, right = old[:, 1:-1, :-2], old[:, 1:-1, 2:]
        moved = inner + p.h * p.nu / p.width**2 * (low + high + left + right - 4 * inner)
        if p.model == "Burgers":
            moved = moved - slope * (inner[0] * (high - low) + inner[1] * (right - left))
        new[:, 1:-1, 1:-1] = moved

    def ghosts(a: Any) -> None:
        a[:, 0], a[:, n + 1] = a[:, n], a[:, 1]
        a[:, :, 0], a[:, :, n + 1] = a[:, :, n], a[:, :, 1]

    fast = torch.compile(step)
    start = torch.from_numpy(p.single)

    def call() -> Any:
        with torch.no_grad():
            old = torch.nn.functional.pad(start[None], (1, 1, 1, 1), mode="circular")[0]
            new = torch.empty_like(old)
            for _ in range(p.steps):
                fast(old, new)
                ghosts(new)
                old, new = new, old
        return old[:, 1:-1, 1:-1]

    return call


def _jax(p: Problem) -> Call:
    jax = jax_on_all_cores()
    jnp = jax.numpy
    start = jnp.asarray(p.single)

    @jax.jit  # type: ignore[untyped-decorator]
    def run(fields: Any) -> Any:
        return jax.lax.fori_loop(0, p.steps, lambda _, f: f + p.h * p.rates(jnp, f), fields)

    return lambda: np.asarray(run(start))


def _devito(p: Problem) -> Call:
    import devito

    devito.configuration["log-level"] = "ERROR"
    devito.configuration["language"] = "openmp"
    n, h = p.n, p.width
    grid = devito.Grid(shape=(n + 2, n + 2), extent=((n + 1) * h, (n + 1) * h), dtype=np.float32)
    fields = [devito.TimeFunction(name=name, grid=grid, space_order=2) for name in "uv"[: len(p.start)]]
    x, y = grid.dimensions
    t = grid.stepping_dim
    equations = []
    for f in fields:
        rate = p.nu * f.laplace
        if p.model == "Burgers":
            u, v = fields
            rate = rate - u * f.dxc - v * f.dyc
        equations.append(devito.Eq(f.forward, f + p.h * rate, subdomain=grid.interior))
    for f in fields:
        equations += [
            devito.Eq(f[t + 1, 0, y], f[t + 1, n, y]),
            devito.Eq(f[t + 1, n + 1, y], f[t + 1, 1, y]),
            devito.Eq(f[t + 1, x, 0], f[t + 1, x, n]),
            devito.Eq(f[t + 1, x, n + 1], f[t + 1, x, 1]),
        ]
    operator = devito.Operator(equations)
    padded = np.pad(p.single, ((0, 0), (1, 1), (1, 1)), mode="wrap")

    def call() -> Any:
        for f, values in zip(fields, padded):
            f.data[0] = values
        operator.apply(time_m=0, time_M=p.steps - 1)
        return np.stack([np.array(f.data[p.steps % 2][1:-1, 1:-1]) for f in fields])

    return call


def _pypde(p: Problem) -> Call:
    import pde

    grid = pde.CartesianGrid([[0, 1], [0, 1]], p.n, periodic=True)
    names = "uv"[: len(p.start)]
    terms = {name: f"{p.nu!r} * laplace({name})" for name in names}
    if p.model == "Burgers":
        terms = {name: f"{rate} - u * d_dx({name}) - v * d_dy({name})" for name, rate in terms.items()}
    equation = pde.PDE(terms, bc="periodic")

    def start() -> Any:
        parts = [pde.ScalarField(grid, values, dtype=np.float32) for values in p.single]
        return parts[0] if len(parts) == 1 else pde.FieldCollection(parts)

    step = pde.EulerSolver(equation).make_stepper(start(), p.h)
    step(start(), 0.0, p.h)  # which compiles

    def call() -> Any:
        state = start()
        step(state, 0.0, p.steps * p.h)
        return state.data.reshape(-1, p.n, p.n)

    return call
