"""1,000 stiff systems: Robertson's reactions over eleven decades of time, with the first rate varied.

Results are final states; their errors are relative, of the worst component, the median over a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contest import PEER, USUAL, Call, Contestant, Work
from benchmarks.libraries import by_ndl, in_double, jax_on_all_cores

Floats = npt.NDArray[np.float64]

PROGRAM = """
model Robertson:
    param k = 0.04
    state a = 1.0, b = 0.0, c = 0.0
    a' = -k*a + 1e4*b*c
    b' =  k*a - 1e4*b*c - 3e7*b^2
    c' =  3e7*b^2
"""


@dataclass(frozen=True)
class Problem:
    """The ensemble; results are final states [members, 3]."""

    members: int = 1_000
    t1: float = 1e5
    rtol: float = 1e-6
    atol: float = 1e-10  # the second state stays below 4e-5

    @cached_property
    def k(self) -> Floats:
        return np.geomspace(0.02, 0.08, self.members)

    @cached_property
    def sample(self) -> npt.NDArray[np.int64]:
        return np.unique(np.linspace(0, self.members - 1, 9).astype(np.int64))

    def by_scipy(self, k: float, method: str, rtol: float, atol: float) -> Floats:
        """The final state of one member."""
        from scipy.integrate import solve_ivp

        def rates(_: float, s: Floats) -> list[float]:
            a, b, c = s.tolist()
            slow, back, fast = k * a, 1e4 * b * c, 3e7 * b * b
            return [back - slow, slow - back - fast, fast]

        def slopes(_: float, s: Floats) -> list[list[float]]:
            _, b, c = s.tolist()
            return [[-k, 1e4 * c, 1e4 * b], [k, -1e4 * c - 6e7 * b, -1e4 * b], [0.0, 6e7 * b, 0.0]]

        how = {"method": method, "rtol": rtol, "atol": atol, "jac": slopes, "t_eval": [self.t1]}
        return np.asarray(solve_ivp(rates, (0.0, self.t1), [1.0, 0.0, 0.0], **how).y[:, -1])

    @cached_property
    def reference(self) -> Floats:
        """[sample, 3] by Radau's method with a tight tolerance."""
        return np.stack([self.by_scipy(k, "Radau", 1e-11, 1e-15) for k in self.k[self.sample]])

    def error(self, result: Any) -> float:
        found = np.asarray(result, dtype=np.float64)[self.sample]
        return float(np.median((np.abs(found - self.reference) / self.reference).max(-1)))


def works(quick: bool = False, backends: Sequence[str | None] = (None,)) -> list[Work]:
    p = Problem(members=20) if quick else Problem()
    contestants = [
        *_ndl(p, backends, "rodas5"),
        *_ndl(p, backends, "kvaerno5"),
        Contestant("scipy, LSODA, one by one", USUAL, lambda: _scipy(p, "LSODA")),
        Contestant("scipy, Radau, one by one", PEER, lambda: _scipy(p, "Radau")),
        Contestant("diffrax, kvaerno5", PEER, lambda: _diffrax(p)),
    ]
    title = f"Robertson × {p.members:,}, t to {p.t1:g}, rtol {p.rtol:g}, float64"
    name = "median over members of the worst component's relative error at the end"
    return [Work(title, contestants, p.error, name, 1e-2)]


def _ndl(p: Problem, backends: Sequence[str | None], method: str) -> list[Contestant]:
    import torch

    import ndl

    how = f"{method}(rtol={p.rtol}, atol={p.atol})"

    def call(model: Any, settings: dict[str, Any]) -> Any:
        s = ndl.solve(model, span=(0.0, p.t1), method=how, save="end", gradient="none", **settings)
        return torch.stack([s.final[name] for name in ("a", "b", "c")], -1)

    return by_ndl(PROGRAM, backends, call, lambda model: model(k=torch.from_numpy(p.k)), f"NDL, {method}")


def _scipy(p: Problem, method: str) -> Call:
    return lambda: np.stack([p.by_scipy(k, method, p.rtol, p.atol) for k in p.k])


def _diffrax(p: Problem) -> Call:
    jax = jax_on_all_cores()
    import diffrax
    import jax.numpy as jnp

    def rates(t: Any, s: Any, k: Any) -> Any:
        a, b, c = s
        slow, back, fast = k * a, 1e4 * b * c, 3e7 * b * b
        return jnp.stack([back - slow, slow - back - fast, fast])

    def one(k: Any) -> Any:
        solved = diffrax.diffeqsolve(
            diffrax.ODETerm(rates),
            diffrax.Kvaerno5(),
            *(0.0, p.t1, None),
            jnp.array([1.0, 0.0, 0.0]),
            args=k,
            stepsize_controller=diffrax.PIDController(rtol=p.rtol, atol=p.atol),
            max_steps=None,
        )
        assert solved.ys is not None
        return solved.ys[-1]

    # `pmap`, which would use all cores, does not take diffrax's implicit methods
    run = jax.jit(jax.vmap(one))
    return in_double(jax, lambda: np.asarray(run(p.k)))
