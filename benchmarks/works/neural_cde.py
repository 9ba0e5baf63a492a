"""A neural controlled equation, forward and backward: a batch of paths drives a state through a net.

The controls are cubics through data with backward differences as slopes, and the method of order 4 takes one
step from one time of the data to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contest import PEER, RULER, USUAL, Call, Contestant, Missing, Work
from benchmarks.libraries import by_ndl, jax_on_all_cores
from benchmarks.nets import Net, distance, flat, in_jax, in_torch, into_ndl, learnable, module
from benchmarks.rulers import build
from benchmarks.works.neural_ode import classical_of_diffrax

PROGRAM = """
model Controlled:
    input X: R[4] on time
    state z: R[8] = zeros(8)
    net F: R[8] -> R[32] = MLP(width=32, depth=1)
    u = tanh(F(z))
    dz = u[0:8]*dX[0] + u[8:16]*dX[1] + u[16:24]*dX[2] + u[24:32]*dX[3]
"""

NET = Net((8, 32, 32), seed=8)


@dataclass(frozen=True)
class Problem:
    """dz = tanh(F(z)) dX with z of 8 and X of 4 components, one of them time; the loss is mean(z(end)^2).

    F gives a column of 8 for each component of X, one after the other.
    """

    batch: int = 128
    length: int = 100

    @cached_property
    def t(self) -> npt.NDArray[np.float32]:
        return np.arange(self.length, dtype=np.float32)

    @cached_property
    def start(self) -> npt.NDArray[np.float32]:
        return np.random.default_rng(9).normal(size=(self.batch, 8)).astype(np.float32)

    @cached_property
    def controls(self) -> npt.NDArray[np.float32]:
        """[batch, length, 4]: time and random walks."""
        rng = np.random.default_rng(10)
        # one step an interval is exact to a percent on these, and to four percent on walks twice as rough
        walks = 0.05 * rng.normal(size=(self.batch, self.length, 3)).cumsum(1)
        time = np.broadcast_to(self.t[None, :, None] / self.length, (self.batch, self.length, 1))
        return np.concatenate([time, walks], -1).astype(np.float32)

    def slopes(self, theta: float) -> npt.NDArray[np.float64]:
        """dX/dt at the part theta of each interval, [length - 1, batch, 4]."""
        rise = np.diff(self.controls.astype(np.float64), axis=1)
        before = np.concatenate([rise[:, :1], rise[:, :-1]], 1)
        # the cubic with these slopes at its ends and this rise between them
        c2, c3 = 2 * (rise - before), before - rise
        return np.moveaxis(before + theta * (2 * c2 + 3 * theta * c3), 1, 0)

    @cached_property
    def reference(self) -> npt.NDArray[np.float64]:
        """The gradient by eight steps an interval, in float64."""
        import torch

        leaves, parts = NET.leaves(torch.float64), 8
        z = torch.tensor(self.start, dtype=torch.float64)
        slopes = torch.stack([torch.from_numpy(self.slopes(k / (2 * parts))) for k in range(2 * parts + 1)])
        for n in range(self.length - 1):
            for k in range(parts):
                ends = slopes[2 * k : 2 * k + 3, n].unbind(0)
                z = step(lambda y: in_torch(leaves, y).tanh(), torch.einsum, z, ends, 1 / parts)
        return flat(torch.autograd.grad((z**2).mean(), leaves))

    def error(self, result: Any) -> float:
        return distance(flat(result), self.reference)


def step(field: Any, einsum: Any, z: Any, slopes: Sequence[Any], h: float) -> Any:
    """One step of Kutta's method, given dX/dt at its start, middle and end; of any library's arrays."""

    def rates(y: Any, slope: Any) -> Any:
        return einsum("bji,bj->bi", field(y).reshape(-1, 4, 8), slope)

    first, middle, last = slopes
    a = rates(z, first)
    b = rates(z + h / 2 * a, middle)
    c = rates(z + h / 2 * b, middle)
    return z + h / 6 * (a + 2 * (b + c) + rates(z + h * c, last))


def works(quick: bool = False, backends: Sequence[str | None] = (None,)) -> list[Work]:
    p = Problem(batch=32, length=12) if quick else Problem()
    contestants = [
        *_ndl(p, backends),
        Contestant("torchcde, rk4", USUAL, lambda: _torchcde(p, adjoint=False)),
        Contestant("torchcde, rk4, adjoint", PEER, lambda: _torchcde(p, adjoint=True)),
        Contestant("diffrax, rk4, checkpoints", PEER, lambda: _diffrax(p)),
        Contestant("jax, scan, rk4", PEER, lambda: _jax_scan(p)),
        Contestant("C tiles, rk4", RULER, lambda: _tiles(p)),
    ]
    title = (
        f"Neural CDE, state 8, width 32, length {p.length} × {p.batch}, rk4, forward and backward, float32"
    )
    name = "relative distance of the gradient by the weights from a finer solution"
    return [Work(title, contestants, p.error, name, 2e-2, floor=1e-5)]


def _ndl(p: Problem, backends: Sequence[str | None]) -> list[Contestant]:
    import torch

    import ndl

    def made(model: Any) -> Any:
        from ndl.runtime.paths_in_time import hermite

        path = hermite(torch.from_numpy(p.t), torch.from_numpy(p.controls), family=True)
        return into_ndl(model(z=torch.from_numpy(p.start)).float(), [NET]).bind(X=path)

    def call(model: Any, settings: dict[str, Any]) -> Any:
        end = ndl.solve(
            model,
            span=(0, p.length - 1),
            method="rk4(h=1)",
            save="end",
            gradient="discrete",
            precision="float32",
            **settings,
        ).final["z"]
        return torch.autograd.grad((end**2).mean(), learnable(model))

    return by_ndl(PROGRAM, backends, call, made, "NDL, rk4")


def _torchcde(p: Problem, adjoint: bool) -> Call:
    import torch
    import torchcde

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = module(NET.leaves())

        def forward(self, t: Any, z: Any) -> Any:
            return self.net(z).tanh().reshape(-1, 4, 8).transpose(1, 2)

    field, start, t = Field(), torch.from_numpy(p.start), torch.tensor([0.0, p.length - 1.0])
    cubics = torchcde.hermite_cubic_coefficients_with_backward_differences(torch.from_numpy(p.controls))
    leaves = list(field.parameters())

    def call() -> Any:
        path = torchcde.CubicSpline(cubics)
        end = torchcde.cdeint(
            path, field, start, t, adjoint=adjoint, method="rk4", options={"step_size": 1.0}
        )[:, -1]
        return torch.autograd.grad((end**2).mean(), leaves)

    return call


def _diffrax(p: Problem) -> Call:
    jax = jax_on_all_cores()
    import diffrax
    import jax.numpy as jnp

    solver = classical_of_diffrax()

    def end(leaves: Any, z: Any, controls: Any) -> Any:
        path = diffrax.CubicInterpolation(p.t, diffrax.backward_hermite_coefficients(p.t, controls))

        def field(t: Any, z: Any, leaves: Any) -> Any:
            return jnp.tanh(in_jax(leaves, z)).reshape(4, 8).T

        term = diffrax.ControlTerm(field, path).to_ode()
        last = p.length - 1.0
        solved = diffrax.diffeqsolve(term, solver, 0.0, last, 1.0, z, args=leaves, max_steps=p.length)
        assert solved.ys is not None
        return solved.ys[-1]

    def loss(leaves: Any, starts: Any, controls: Any) -> Any:
        return (jax.vmap(end, (None, 0, 0))(leaves, starts, controls) ** 2).mean()

    run = jax.jit(jax.grad(loss))
    return lambda: [np.asarray(g) for g in run(NET.weights, p.start, p.controls)]


def _jax_scan(p: Problem) -> Call:
    jax = jax_on_all_cores()
    import jax.numpy as jnp

    slopes = tuple(p.slopes(theta).astype(np.float32) for theta in (0.0, 0.5, 1.0))

    def loss(leaves: Any, start: Any, slopes: Any) -> Any:
        def next_z(z: Any, ends: Any) -> tuple[Any, None]:
            return step(lambda y: jnp.tanh(in_jax(leaves, y)), jnp.einsum, z, ends, 1.0), None

        return (jax.lax.scan(next_z, start, slopes)[0] ** 2).mean()

    run = jax.jit(jax.grad(loss))
    return lambda: [np.asarray(g) for g in run(NET.weights, p.start, slopes)]


def _tiles(p: Problem) -> Call:
    from ctypes import c_int64

    if p.batch % 32:
        raise Missing("the ruler is for whole tiles of 32 samples")
    solve, workers, threads = build.library("neural_cde").neural_cde, build.pool(), build.cores()
    given = np.concatenate([w.reshape(-1) for w in NET.weights])
    by_time = np.ascontiguousarray(np.moveaxis(p.controls, 0, 2))
    sizes = [c_int64(p.batch), c_int64(p.length)]
    tables = [build.pointer(a) for a in (p.start, by_time, given)]

    def call() -> Any:
        sums = np.zeros((threads, given.size), np.float32)

        def some(k: int) -> None:
            if solve(*sizes, *tables, build.pointer(sums[k]), c_int64(k), c_int64(threads)):
                raise MemoryError

        build.on_all(workers, some)
        return [sums.sum(0)]

    return call
