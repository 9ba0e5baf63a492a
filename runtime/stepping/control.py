"""Step-size control: error norms, the PI rule and the first step.

E. Hairer, S. P. Nørsett, G. Wanner, "Solving Ordinary Differential Equations I", 2nd ed., section II.4.
All step sizes here are magnitudes; decisions are made in float64 on the host, one for each member.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.methods import VectorField
from ndl.runtime.problem import Floats, Problem
from ndl.runtime.stepping.coarse import exp2_coarse, log2_coarse
from torch import Tensor


@dataclass(frozen=True)
class Tolerances:
    """rtol and atol, numbers or `[n]`; the scale of an error is atol + rtol max(|x0|, |x1|)."""

    rtol: Any
    atol: Any
    left_out: int = 0
    """Places that hold earlier values and have no error."""

    @staticmethod
    def of(problem: Problem) -> Tolerances:
        """From the method's options `rtol` (1e-6) and `atol` (1e-9): a number, a list with an entry for
        each state or each component, or values by the names of states."""
        options = problem.method.options
        rtol = _spread(problem, "rtol", options.get("rtol", 1e-6))
        atol = _spread(problem, "atol", options.get("atol", 1e-9))
        kept = sum(s.size for s in problem.model.STATES if s.source)
        return Tolerances(rtol, atol if isinstance(atol, Tensor) else problem.x0.new_tensor(atol), kept)

    def scale(self, a0: Tensor, a1: Tensor) -> Tensor:
        """The scale `[..., n]` from the magnitudes at both ends of a step."""
        top = torch.maximum(a0, a1)
        if isinstance(self.rtol, Tensor):
            return torch.addcmul(self.atol, self.rtol, top)
        return torch.add(self.atol, top, alpha=self.rtol)

    def norm(self, e: Tensor, a0: Tensor, a1: Tensor) -> Tensor:
        """Root mean square of e over the scale, one for each member `[...]`."""
        size: Tensor = torch.linalg.vector_norm(e / self.scale(a0, a1), dim=-1)
        return size / math.sqrt(e.shape[-1] - self.left_out)


def proportional(tol: Tolerances, order: float) -> Tolerances:
    """Tolerances for a pair whose solution is of no higher order than its error estimate.

    For such a pair step errors of one tolerance add up to a global error ~ tol^(p/(p+1)). Below 1e-4, rtol
    becomes 1e-4 (rtol/1e-4)^((p+1)/p), and atol goes with it, so that the global error stays in proportion to
    what was asked for. RADAU5 of Hairer and Wanner calibrates its tolerances alike.
    """
    rtol = tol.rtol
    ratio = (1e4 * rtol) ** (1 / order)
    if isinstance(rtol, Tensor):
        ratio = torch.where(rtol > 0, ratio, torch.ones_like(rtol)).clamp(max=1.0)
    else:
        ratio = min(ratio, 1.0) if rtol > 0 else 1.0
    return replace(tol, rtol=rtol * ratio, atol=tol.atol * ratio)


def _spread(problem: Problem, name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        out = problem.x0.new_full((problem.size,), 1e-6 if name == "rtol" else 1e-9)
        for s in problem.model.STATES:
            if s.name in value:
                out[s.places] = float(value[s.name])
        return out
    if isinstance(value, float) and 0 <= value < math.inf:
        return value
    tensor = torch.as_tensor(value, dtype=torch.float64).detach()
    if bool((tensor < 0).any()) or not bool(torch.isfinite(tensor).all()):
        raise SettingError(f"`{name}` must not be negative")
    if tensor.ndim == 0:
        return float(tensor)
    states = [s for s in problem.model.STATES if not s.source]
    if tensor.shape == (len(states),):
        tensor = tensor.repeat_interleave(torch.tensor([s.size for s in states]))
    if tensor.shape == (sum(s.size for s in states),):
        out = torch.ones(problem.size, dtype=torch.float64)
        out[[i for s in states for i in range(s.places.start, s.places.stop)]] = tensor
        return out.to(problem.x0)
    raise SettingError(f"`{name}` has {tensor.numel()} entries; the model has {len(states)} states")


@dataclass(frozen=True)
class Controller:
    """The PI rule h_new = h * clip(0.9 err^-(1/k - 0.75 beta) err_old^beta), with k = 1 + the lower order
    of the pair and beta = 0.2/k: for a 5(4) pair the exponents 0.17 and 0.04 of DOPRI5; with beta = 0 it is
    the I rule. Powers are taken to three digits. After a rejection the next step does not grow."""

    k: float
    beta: float
    grow: float = 10.0
    shrink: float = 0.2
    safety: float = 0.9

    @staticmethod
    def of(problem: Problem, error_order: float, grow: float) -> Controller:
        """From the method's option `beta`, in Hairer's sense."""
        k = error_order + 1
        beta = problem.method.options.get("beta")
        if beta is not None and not 0 <= float(beta) <= 1 / k:
            raise SettingError(
                f"`beta` is {float(beta):g}, not between 0 and {1 / k:g}",
                help="0 forgets the error of the step before; without `beta` it is "
                f"{0.2 / k:g} for `{problem.method.name}`",
            )
        return Controller(k, 0.2 / k if beta is None else float(beta), grow)

    def accepted(self, error: Floats, old: Floats, after_rejection: np.ndarray) -> Floats:
        """The factor after an accepted step; errors below 1e-10 count as that."""
        power = self.beta * _log2(old) - (1 / self.k - 0.75 * self.beta) * _log2(error)
        factor = self.safety * exp2_coarse(power)
        factor = np.minimum(np.maximum(factor, self.shrink), self.grow)
        return np.where(after_rejection, np.minimum(factor, 1.0), factor)

    def rejected(self, error: Floats) -> Floats:
        """The factor after a rejected step; a value that is not finite asks for a tenth."""
        factor = np.maximum(self.safety * exp2_coarse(_log2(error) * (-1 / self.k)), self.shrink)
        return np.where(np.isfinite(error), np.minimum(factor, 0.9), 0.1)


def _log2(error: Floats) -> Floats:
    """log2 to three digits, through the square that kernels have; 1e-10 stands for what is below, 1e10 for
    what is above or no number."""
    with np.errstate(over="ignore"):
        square = np.fmin(np.fmax(error * error, 1e-20), 1e20)
    return 0.5 * log2_coarse(square)


def first_step(
    f: VectorField, x: Tensor, t: Floats, sign: float, room: Floats, order: float, tol: Tolerances
) -> tuple[Floats, Tensor]:
    """A first step (at most `room [b]`) and f(x, t), with two evaluations.

    Hairer, Nørsett, Wanner, algorithm after (4.14): an explicit Euler step of 1 % of the scale of x
    estimates the second derivative.
    """
    a = x.abs()
    scale = tol.scale(a, a)
    root = x.shape[-1] ** -0.5
    at = clock(t, x)
    f0 = f(x, at)
    d0 = host(torch.linalg.vector_norm(x / scale, dim=-1)) * root
    d1 = host(torch.linalg.vector_norm(f0 / scale, dim=-1)) * root
    small = (d0 < 1e-5) | (d1 < 1e-5) | ~np.isfinite(d1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        h0 = np.where(small, 1e-6, 0.01 * d0 / d1)
        h0 = np.minimum(h0, room)
        step = clock(sign * h0, x)[:, None]
        f1 = f(x + step * f0, clock(t + sign * h0, x))
        d2 = host(torch.linalg.vector_norm((f1 - f0) / scale, dim=-1)) * root / h0
        top = np.fmax(d1, d2)
        h1 = np.where(top <= 1e-15, np.maximum(1e-6, h0 * 1e-3), (0.01 / top) ** (1 / (order + 1)))
    h = np.minimum(np.minimum(100 * h0, h1), room)
    return np.where(np.isfinite(h) & (h > 0), h, np.minimum(1e-6, room)), f0


def host(x: Tensor) -> Floats:
    """A tensor as float64 on the host."""
    array: Floats = x.detach().cpu().numpy()
    return array if array.dtype == np.float64 else array.astype(np.float64)


def clock(t: Floats, x: Tensor) -> Tensor:
    """Host times as a tensor like x."""
    tensor = torch.from_numpy(t)
    return tensor if x.dtype == torch.float64 and x.device.type == "cpu" else tensor.to(x)
