"""What a generated model says of itself: static descriptions of its states, weights and processes.

Shapes are those of one sample. `name` is the user's name, `attribute` or `method` the Python one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """A state of first order; it takes `size` places of the flat state from `offset` on. One that holds
    an earlier value takes that of `source` next, after a step (`by_step`) or a firing. The last axis of one
    that is `complex` has the real and the imaginary part."""

    name: str
    shape: tuple[int, ...] = ()
    offset: int = 0
    algebraic: bool = False
    lower: float | None = None
    upper: float | None = None
    attribute: str = ""
    line: int = 0
    source: str = ""
    by_step: bool = False
    complex: bool = False

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def seen(self) -> tuple[int, ...]:
        """The shape of its values as the language sees them."""
        return self.shape[:-1] if self.complex else self.shape

    def value(self, stored: Tensor) -> Tensor:
        """What is stored, `[..., *shape]`, as the language sees it, `[..., *seen]`."""
        return torch.complex(stored[..., 0], stored[..., 1]) if self.complex else stored

    def parts(self, value: Tensor) -> Tensor:
        """The inverse of `value`; real numbers have the imaginary part 0."""
        if not self.complex:
            return value
        im = value.imag if value.is_complex() else torch.zeros_like(value)
        return torch.stack([value.real if value.is_complex() else value, im], -1)

    @property
    def places(self) -> slice:
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class ParameterInfo:
    """A weight of a model or of one of its parts; `law` says how it is drawn when no value is given, `waves`
    how far the wavenumbers go along its first axis, if it has an entry for each."""

    name: str
    shape: tuple[int, ...] = ()
    lower: float | None = None
    upper: float | None = None
    trainable: bool = True
    kind: str = "R"
    law: tuple[str, tuple[Any, ...]] | None = None
    attribute: str = ""
    waves: tuple[int, ...] = ()

    @property
    def constrained(self) -> bool:
        return self.trainable and (self.lower is not None or self.upper is not None)


@dataclass(frozen=True)
class InputInfo:
    """A path (`on_time`) or a constant given at run time."""

    name: str
    shape: tuple[int, ...] = ()
    on_time: bool = False


@dataclass(frozen=True)
class NoiseInfo:
    """A driving noise with `size` independent components."""

    name: str
    size: int = 1
    shape: tuple[int, ...] = ()
    law: str = "wiener"


@dataclass(frozen=True)
class DrawInfo:
    """A random value, bound like an input; `per` is `sample`, `step`, `firing` (of which `event`) or `member`
    (of a family). `stream` names its random numbers, where that is not its own name."""

    name: str
    shape: tuple[int, ...] = ()
    law: str = "normal"
    arguments: tuple[Any, ...] = ()
    per: str = "sample"
    event: int | None = None
    stream: str = ""


@dataclass(frozen=True)
class DelayInfo:
    """A read of the past of the state `name`. `place` is where the model's `lags` say how far back it goes,
    None where no run asks; `constant` says that this is the same all through a run."""

    name: str
    constant: bool = False
    place: int | None = None
    text: str = ""
    line: int = 0


@dataclass(frozen=True)
class DerivedInfo:
    """A derived quantity; `noises` names the noises whose values it reads."""

    name: str
    shape: tuple[int, ...] = ()
    kind: str = "R"
    method: str = ""
    noises: tuple[str, ...] = ()


@dataclass(frozen=True)
class ObserveInfo:
    """A measurement, drawn at each saved time; `methods` give the law's arguments there."""

    name: str
    shape: tuple[int, ...] = ()
    law: str = "normal"
    methods: tuple[str, ...] = ()


@dataclass(frozen=True)
class GridInfo:
    """The grid of a domain: for each coordinate what `ndl.runtime.grids.grid_points` takes."""

    domain: str
    coordinates: tuple[str, ...] = ()
    layouts: tuple[tuple[str, int, float, float], ...] = ()
    reach: tuple[int, ...] = ()
    """How far the rates and residuals read along each axis, -1 for everywhere; on a mesh how many cells
    away."""

    mesh: str = ""
    """The key of a mesh in `ndl.runtime.meshes`; its nodes are the only axis, of layout (`mesh`, n, 0, 0)."""


@dataclass(frozen=True)
class FourierInfo:
    """A part of a state's rate, or of a term, that is diagonal in Fourier space along `axes` of the state:
    its `method` gives the symbol, for half of the modes on the last axis unless `whole`."""

    term: str
    state: str
    axes: tuple[int, ...] = ()
    method: str = ""
    whole: bool = False


@dataclass(frozen=True)
class TermInfo:
    """A named part of the right-hand side; `nets` are the attributes of those it reads that have several
    sets of weights."""

    name: str
    method: str = ""
    nets: tuple[str, ...] = ()


@dataclass(frozen=True)
class EventInfo:
    """`kind` is rising, falling, crossing, every, sample or poisson (`column` is its stream then); `resets`
    names the states that change."""

    kind: str
    text: str
    resets: tuple[str, ...] = ()
    column: str | None = None
    stop: bool = False
    why: str | None = None
    line: int = 0


@dataclass(frozen=True)
class RequireInfo:
    """A condition that is checked while running."""

    text: str
    why: str | None = None
    line: int = 0


@dataclass(frozen=True)
class IntegralInfo:
    """An integral of `y(t) = …`: `volterra` when its upper limit is t."""

    volterra: bool = False
