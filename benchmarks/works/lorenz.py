"""10,000 Lorenz equations, rho from 0 to 28, with adaptive steps in float64.

Members differ much in their number of steps; those of rho above 24 are chaotic, so that errors are compared
by their median over members.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contest import PEER, RULER, USUAL, Call, Contestant, Work
from benchmarks.libraries import by_ndl, in_double, jax_on_all_cores
from benchmarks.rulers import build

Floats = npt.NDArray[np.float64]

PROGRAM = """
model Lorenz:
    param sigma = 10.0, rho = 28.0, beta = 8/3
    state x = 1.0, y = 1.0, z = 1.0
    x' = sigma*(y - x)
    y' = x*(rho - z) - y
    z' = x*y - beta*z
"""


@dataclass(frozen=True)
class Problem:
    """An ensemble; results are final states [members, 3] or three of [members]."""

    members: int = 10_000
    sigma: float = 10.0
    beta: float = 8 / 3
    start: tuple[float, float, float] = (1.0, 1.0, 1.0)
    t1: float = 10.0
    rtol: float = 1e-6
    atol: float = 1e-6
    first: float = 0.01  # where a solver must be told its first step

    @cached_property
    def rho(self) -> Floats:
        return np.linspace(0.0, 28.0, self.members)

    @cached_property
    def states(self) -> Floats:
        return np.tile(np.array(self.start), (self.members, 1))

    @cached_property
    def sample(self) -> npt.NDArray[np.int64]:
        """The members that are compared with the reference."""
        return np.unique(np.linspace(0, self.members - 1, min(self.members, 200)).astype(np.int64))

    @cached_property
    def reference(self) -> Floats:
        """Final states of the sample, as one system with a tolerance for all of it."""
        from scipy.integrate import solve_ivp

        rho = self.rho[self.sample]

        def rates(_: float, flat: Floats) -> Floats:
            x, y, z = flat.reshape(3, -1)
            return np.concatenate([self.sigma * (y - x), x * (rho - z) - y, x * y - self.beta * z])

        start = self.states[self.sample].T.reshape(-1)
        solved = solve_ivp(rates, (0, self.t1), start, method="DOP853", rtol=1e-13, atol=1e-13)
        return np.asarray(solved.y[:, -1].reshape(3, -1).T)

    def error(self, result: Any) -> float:
        found = np.asarray(result, dtype=np.float64)
        found = found[self.sample] if len(found) == self.members else found.T[self.sample]
        return float(np.median(np.linalg.norm(found - self.reference, axis=-1)))


def works(quick: bool = False, backends: Sequence[str | None] = (None,)) -> list[Work]:
    p = Problem(members=500) if quick else Problem()
    contestants = [
        *_ndl(p, backends, "tsit5"),
        *_ndl(p, backends, "taylor"),
        # tolerances at which their errors are those of the others, as with heyoka's second turn
        *_ndl(p, backends, "taylor", 3e-5, order=12),
        *_ndl(p, backends, "vern7", 2e-5),
        Contestant("torchdiffeq, dopri5", USUAL, lambda: _torchdiffeq(p)),
        Contestant("torchode, tsit5", PEER, lambda: _torchode(p)),
        Contestant("diffrax, tsit5", PEER, lambda: _diffrax(p, everywhere=False)),
        Contestant("diffrax, tsit5, a device a core", PEER, lambda: _diffrax(p, everywhere=True)),
        Contestant("heyoka, Taylor in batches", PEER, lambda: _heyoka(p, p.rtol)),
        # its tolerance bounds an error that the method seldom makes: here its error is that of the others
        Contestant("heyoka, tolerance 1e-4", PEER, lambda: _heyoka(p, 1e-4)),
        Contestant("C lanes, tsit5", RULER, lambda: _lanes(p)),
    ]
    title = f"Lorenz × {p.members:,}, adaptive, rtol {p.rtol:g}, float64"
    return [Work(title, contestants, p.error, "median over members of |x(10) − reference|", 1e-2)]


def _ndl(
    p: Problem, backends: Sequence[str | None], method: str, tol: float = 1e-6, order: int | None = None
) -> list[Contestant]:
    import torch

    import ndl

    of = "" if order is None else f"order={order}, "
    how = f"{method}({of}rtol={tol}, atol={tol})"

    def call(model: Any, settings: dict[str, Any]) -> Any:
        s = ndl.solve(model, span=(0.0, p.t1), method=how, save="end", gradient="none", **settings)
        return [s.final[name] for name in ("x", "y", "z")]

    def made(model: Any) -> Any:
        return model(sigma=p.sigma, beta=p.beta, rho=torch.from_numpy(p.rho))

    label = f"NDL, {method}" + ("" if order is None else f" of order {order}")
    label += "" if tol == p.rtol else f", tolerance {tol:g}"
    return by_ndl(PROGRAM, backends, call, made, label)


def _torch_rates(p: Problem) -> Any:
    import torch

    rho = torch.from_numpy(p.rho)

    def rates(t: Any, s: Any) -> Any:
        x, y, z = s.unbind(-1)
        return torch.stack([p.sigma * (y - x), x * (rho - z) - y, x * y - p.beta * z], -1)

    return rates


def _torchdiffeq(p: Problem) -> Call:
    import torch
    from torchdiffeq import odeint

    rates, start = _torch_rates(p), torch.from_numpy(p.states)
    t = torch.tensor([0.0, p.t1], dtype=torch.float64)

    def call() -> Any:
        with torch.no_grad():
            return odeint(rates, start, t, method="dopri5", rtol=p.rtol, atol=p.atol)[-1]

    return call


def _torchode(p: Problem) -> Call:
    import torch
    import torchode

    start = torch.from_numpy(p.states)
    t = torch.tensor([0.0, p.t1], dtype=torch.float64).expand(p.members, 2)
    term = torchode.ODETerm(_torch_rates(p))
    controller = torchode.IntegralController(atol=p.atol, rtol=p.rtol, term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Tsit5(term=term), controller)

    def call() -> Any:
        with torch.no_grad():
            return solver.solve(torchode.InitialValueProblem(start, t[:, 0], t[:, 1], t)).ys[:, -1]

    return call


def _diffrax(p: Problem, everywhere: bool) -> Call:
    jax = jax_on_all_cores()
    import diffrax
    import jax.numpy as jnp

    def rates(t: Any, s: Any, rho: Any) -> Any:
        x, y, z = s
        return p.sigma * (y - x), x * (rho - z) - y, x * y - p.beta * z

    def one(rho: Any) -> Any:
        solved = diffrax.diffeqsolve(
            diffrax.ODETerm(rates),
            diffrax.Tsit5(),
            0.0,
            p.t1,
            None,
            p.start,
            args=rho,
            stepsize_controller=diffrax.PIDController(rtol=p.rtol, atol=p.atol),
            max_steps=None,
        )
        return jnp.stack([v[-1] for v in solved.ys])

    if not everywhere:
        run = jax.jit(jax.vmap(one))
        return in_double(jax, lambda: np.asarray(run(p.rho)))
    # members are dealt out in turns: neighbours take about the same number of steps
    count = jax.local_device_count()
    split = jax.pmap(jax.vmap(one))
    rho = p.rho[: p.members // count * count].reshape(-1, count).T
    return in_double(jax, lambda: np.asarray(split(rho)).transpose(1, 0, 2).reshape(-1, 3))


def _heyoka(p: Problem, tolerance: float) -> Call:
    import heyoka

    width = 4 * heyoka.recommended_simd_size()  # neighbours take about the same number of steps
    x, y, z = heyoka.make_vars("x", "y", "z")
    equations = [
        (x, p.sigma * (y - x)),
        (y, x * (heyoka.par[0] - z) - y),
        (z, x * y - p.beta * z),
    ]
    start = np.tile(np.array(p.start)[:, None], (1, width))
    made = heyoka.taylor_adaptive_batch(
        equations, start, pars=np.zeros((1, width)), tol=tolerance, compact_mode=False
    )
    chunks = np.resize(p.rho, (-(-p.members // width), width))  # the last chunk repeats some members
    out = np.empty((len(chunks), 3, width))
    workers = build.pool()
    integrators = [deepcopy(made) for _ in range(build.cores())]

    def some(k: int) -> None:
        ta = integrators[k]
        for i in range(k, len(chunks), len(integrators)):
            ta.set_time(0.0)
            ta.state[:] = start
            ta.pars[0] = chunks[i]
            ta.propagate_until(p.t1)
            out[i] = ta.state

    def call() -> Floats:
        build.on_all(workers, some)
        return out.transpose(0, 2, 1).reshape(-1, 3)[: p.members].copy()

    return call


def _lanes(p: Problem) -> Call:
    from ctypes import c_double, c_int64

    lorenz = build.library("lorenz").lorenz
    workers = build.pool()
    start = np.array(p.start)

    def call() -> Floats:
        out = np.empty((p.members, 3))
        queue, steps = np.zeros(1, np.int64), np.zeros(1, np.int64)
        numbers = [c_double(v) for v in (p.sigma, p.beta)]
        limits = [c_double(v) for v in (p.t1, p.rtol, p.atol, p.first)]
        shared = [build.pointer(a) for a in (queue, out, steps)]
        ends = [build.pointer(start), *limits, *shared]
        build.on_all(workers, lambda k: lorenz(c_int64(p.members), build.pointer(p.rho), *numbers, *ends))
        return out

    return call
