"""Stochastic models written by hand, with exact solutions on the same path where there is one."""

from __future__ import annotations

import math
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from ndl.runtime.brownian import BrownianPath
from ndl.runtime.info import EventInfo, NoiseInfo, ParameterInfo
from problems import Small, scalars
from torch import Tensor


class GBM(Small):
    """dx = mu x dt + s x dW, Itô; x = exp((mu - s^2/2) t + s W)."""

    NAME = "GBM"
    STATES = scalars("x")
    PARAMETERS = (ParameterInfo("mu"), ParameterInfo("s"))
    NOISES = (NoiseInfo("W", 1, ()),)
    NOISE_KIND = "scalar"
    DEFAULTS: ClassVar = {"mu": 0.1, "s": 0.4, "x": 1.0}

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return self.mu[..., None] * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return (self.s[..., None] * x)[..., None]

    def exact(self, t: float, W: Tensor) -> Tensor:
        return torch.exp((self.mu - self.s**2 / 2) * t + self.s * W)


class GBMStratonovich(GBM):
    """The same process, read by Stratonovich."""

    NAME = "GBMStratonovich"
    CALCULUS = "stratonovich"

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return (self.mu - self.s**2 / 2)[..., None] * x


class TwoGBM(Small):
    """Two independent copies with different volatilities: diagonal noise."""

    NAME = "TwoGBM"
    STATES = scalars("x", "y")
    NOISES = (NoiseInfo("W", 2, (2,)),)
    NOISE_KIND = "diagonal"
    DEFAULTS: ClassVar = {"x": 1.0, "y": 1.0}
    S = torch.tensor([0.4, 0.7], dtype=torch.float64)

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return 0.1 * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return self.S * x

    def exact(self, t: float, W: Tensor) -> Tensor:
        return torch.exp((0.1 - self.S**2 / 2) * t + self.S * W)


class Additive(Small):
    """dx = (2/(1 + t) x + (1 + t)^2) dt + (1 + t)^2 dW; x = (1 + t)^2 (x0 + W + t): Kloeden and Platen,
    section 4.4."""

    NAME = "Additive"
    STATES = scalars("x")
    NOISES = (NoiseInfo("W", 1, ()),)
    NOISE_KIND = "additive"
    DEFAULTS: ClassVar = {"x": 1.0}

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return 2 / (1 + t)[..., None] * x + (1 + t)[..., None] ** 2

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return ((1 + t)[..., None] ** 2).expand(x.shape)[..., None]

    def exact(self, t: float, W: Tensor) -> Tensor:
        return (1 + t) ** 2 * (1 + W + t)


class Arctan(Small):
    """dx = -sin(x) cos(x)^3 dt + cos(x)^2 dW; x = arctan(W + tan x0): nonlinear scalar noise."""

    NAME = "Arctan"
    STATES = scalars("x")
    NOISES = (NoiseInfo("W", 1, ()),)
    NOISE_KIND = "scalar"
    DEFAULTS: ClassVar = {"x": 0.3}

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return -torch.sin(x) * torch.cos(x) ** 3

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return (torch.cos(x) ** 2)[..., None]

    def exact(self, t: float, W: Tensor) -> Tensor:
        return torch.arctan(W + torch.tan(torch.tensor(0.3, dtype=torch.float64)))


class OU(Small):
    """dx = -2 x dt + dW: the drift feels the noise, so that the area of the path decides the order."""

    NAME = "OU"
    STATES = scalars("x")
    NOISES = (NoiseInfo("W", 1, ()),)
    NOISE_KIND = "additive"
    DEFAULTS: ClassVar = {"x": 1.0}

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return -2 * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.ones_like(x)[..., None]

    @staticmethod
    @cache
    def exact(seed: int, members: int, n: int) -> Tensor:
        """x(1) `[members]`: exp(-2) + W(1) - 2 int exp(-2(1 - s)) W(s) ds, the integral cell by cell from
        values and areas of the path at n cells: error O(n^-3/2)."""
        path = BrownianPath(seed, members, 1, 0, 1)
        t = np.arange(n + 1) / n
        _, dZ = path.increments(t)
        W = path.at(t).W
        weight = torch.from_numpy(np.exp(-2 * (1 - t[:-1] - 0.5 / n)))[:, None, None]
        integral = (weight * (W[:-1] / n + dZ)).sum(0)
        return (math.exp(-2) + W[-1] - 2 * integral)[:, 0]


class Rotations(Small):
    """dx = A x o dW_1 + B x o dW_2 with matrices that do not commute: general noise; |x| stays 1."""

    NAME = "Rotations"
    STATES = scalars("x", "y", "z")
    NOISES = (NoiseInfo("V", 1, ()), NoiseInfo("W", 1, ()))
    NOISE_KIND = "general"
    CALCULUS = "stratonovich"
    DEFAULTS: ClassVar = {"x": 1.0}
    A = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)
    B = torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([x @ self.A.T, x @ self.B.T], -1)


class Reflected(Small):
    """Brownian motion with drift that is set back to 1 when it falls to 0."""

    NAME = "Reflected"
    STATES = scalars("x")
    NOISES = (NoiseInfo("W", 1, ()),)
    NOISE_KIND = "additive"
    EVENTS = (EventInfo("falling", "falling(x)", ("x",)),)
    DEFAULTS: ClassVar = {"x": 0.5}

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.full_like(x, -0.5)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.ones_like(x)[..., None]

    def guard_0(self, t: Tensor, x: Tensor) -> Tensor:
        return x[..., 0]

    def reset_0(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.ones_like(x)
