"""The equation dx = f dt + g dW as steps see it: the diffusion as a linear map, the drift in either calculus.

Itô and Stratonovich readings of one process differ by c(x, t) = 1/2 sum_j (dg_j/dx) g_j in the drift, g_j
being the column of noise component j: f_stratonovich = f_ito - c (Kloeden and Platen 1992, section 4.9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.methods import VectorField
from ndl.runtime.model import Model
from torch import Tensor

KINDS = ("none", "additive", "scalar", "diagonal", "commutative", "general")
"""Kinds of noise, each a case of those after it as far as a method's order is concerned."""


class DiffusionAt:
    """g at one point, a linear map: `G @ v` for v `[..., m]`, one number for each component of the noise."""

    def __init__(self, value: Tensor, diagonal: bool) -> None:
        self.value = value
        self.diagonal = diagonal

    def __matmul__(self, v: Tensor) -> Tensor:
        if self.diagonal:
            return self.value * v
        return torch.einsum("...nm,...m->...n", self.value, v)

    def rows(self, rows: Tensor) -> DiffusionAt:
        """The members `rows` of a batch."""
        return DiffusionAt(self.value.index_select(0, rows), self.diagonal)


class Diffusion:
    """g(x, t), counted: `g(x, t) @ v` and `g(x, t, v)` apply it.

    `function(t, x)` gives `[..., n, m]`, or `[..., n]` for diagonal noise whose component i drives state i.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], kind: str, components: int) -> None:
        self.function, self.kind, self.components = function, kind, components
        self.evaluations = 0

    def __call__(self, x: Tensor, t: Tensor, v: Tensor | None = None) -> Any:
        self.evaluations += 1
        value = self.function(t, x)
        if self.kind == "diagonal" and value.ndim <= x.ndim:
            at = DiffusionAt(value.expand(x.shape), True)
        else:
            at = DiffusionAt(value.expand(*x.shape, self.components), False)
        return at if v is None else at @ v

    def jvp(self, x: Tensor, t: Tensor, v: Tensor, u: Tensor) -> Tensor:
        """The derivative of g(x, t) @ v by x along u, `[..., n]`."""
        if self.kind == "additive":
            return torch.zeros_like(x)
        result: Tensor = torch.func.jvp(
            lambda y: self(y, t, v), (x.contiguous(),), (u.expand(x.shape).contiguous(),)
        )[1]
        return result

    def jacobian(self, x: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """The derivative of g(x, t) @ v by x, `[..., n, n]`."""
        unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        return torch.stack([self.jvp(x, t, v, e) for e in unit], -1)

    def correction(self, x: Tensor, t: Tensor) -> Tensor:
        """c(x, t), what the Itô drift has more than the Stratonovich one, `[..., n]`."""
        if self.kind in ("none", "additive"):
            return torch.zeros_like(x)
        if self(x, t).diagonal:
            one = torch.ones_like(x)
            return 0.5 * self.jvp(x, t, one, self(x, t, one))
        total = torch.zeros_like(x)
        for unit in torch.eye(self.components, dtype=x.dtype, device=x.device):
            v = unit.expand(*x.shape[:-1], self.components)
            total = total + self.jvp(x, t, v, self(x, t, v))
        return 0.5 * total


class NoisyField(VectorField):
    """The drift f(x, t) in the calculus that a method wants, with the diffusion as `diffusion`."""

    def __init__(self, model: Model, calculus: str, mass: Tensor | None = None) -> None:
        self.diffusion = Diffusion(model.diffusion, model.NOISE_KIND, components(model))
        sign = 0.0 if calculus == model.CALCULUS else (-1.0 if calculus == "stratonovich" else 1.0)
        own = getattr(model, "correction", None)

        def drift(t: Tensor, x: Tensor) -> Tensor:
            rate = model.vector_field(t, x)
            if sign == 0.0 or model.NOISE_KIND in ("none", "additive"):
                return rate
            more = own(t, x) if own is not None else self.diffusion.correction(x, t)
            return rate + sign * more

        super().__init__(drift, None, None, mass)


def components(model: Model) -> int:
    """m, the number of scalar noises of a model."""
    return sum(noise.size for noise in model.NOISES)


def check_method(model: Model, name: str, noise: str, backwards: bool) -> None:
    """Raises `SettingError` when a method does not serve the noise of a model."""
    if any(s.algebraic for s in model.STATES):
        raise SettingError(f"`{model.NAME}` has both noise and equations `0 = …`, which no method solves")
    if backwards:
        raise SettingError("an equation with noise cannot be run backwards")
    if KINDS.index(model.NOISE_KIND) > KINDS.index(noise):
        raise SettingError(
            f"`{name}` needs {noise} noise or simpler, and the noise of `{model.NAME}` is {model.NOISE_KIND}",
            help="`euler_heun` and `euler_maruyama` serve any noise",
        )
