"""A run, prepared: the model, its start, the span, what to save and the fields that drivers evaluate.

Everything a driver (for ordinary, stochastic or split equations) needs, and nothing of how it steps. Host
times are float64 NumPy; states are tensors `[B, n]`, B members (1 for a single run).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from ndl.runtime.chance import at_step
from ndl.runtime.colouring import Colouring
from ndl.runtime.devices import chosen_device
from ndl.runtime.errors import SettingError
from ndl.runtime.fourier import fourier_part
from ndl.runtime.members import is_family, select_members
from ndl.runtime.methods import Method, VectorField
from ndl.runtime.model import Model
from ndl.runtime.sampled import held_inputs
from torch import Tensor

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_CELLS = 2**31
"""Steps of the noise on either side of the time 0."""


@dataclass(frozen=True)
class SavePlan:
    """What to save: `kind` is 'steps', 'end' or 'grid'; `times [S]` of a grid run in the span's direction."""

    kind: str
    times: Floats

    @staticmethod
    def make(save: Any, t0: float, t1: float) -> SavePlan:
        """From 'steps', 'end', ('every', dt) or a list of times, which may stand in any order of size."""
        if save is None:
            save = "steps"
        if isinstance(save, str):
            if save == "steps":
                return SavePlan("steps", np.empty(0))
            if save == "end":
                return SavePlan("end", np.array([t1]))
            raise SettingError(f"`save` is `steps`, `end`, `every` a step or a list of times, not `{save}`")
        sign = 1.0 if t1 >= t0 else -1.0
        if isinstance(save, tuple) and len(save) == 2 and save[0] == "every":
            dt = abs(float(save[1]))
            if not dt > 0:
                raise SettingError("`save = every h` needs a step h > 0")
            count = int(np.floor(abs(t1 - t0) / dt * (1 + 1e-12) + 1e-9))
            times = t0 + sign * dt * np.arange(count + 1)
        else:
            values = save.detach().cpu().numpy() if isinstance(save, Tensor) else save
            times = np.asarray(values, dtype=np.float64).reshape(-1)
            if times.size == 0:
                raise SettingError("`save` is an empty list of times")
            times = sign * np.sort(sign * times)
        slack = 1e-12 * max(abs(t0), abs(t1), abs(t1 - t0))
        times = np.where(np.abs(times - t1) <= slack, t1, np.where(np.abs(times - t0) <= slack, t0, times))
        outside = (sign * (times - t0) < 0) | (sign * (times - t1) > 0)
        if outside.any():
            raise SettingError(f"`save` asks for t = {times[outside][0]:g}, outside the span {t0:g}..{t1:g}")
        return SavePlan("grid", np.asarray(times, dtype=np.float64))


class Smooth(Protocol):
    """What the adjoint equation asks of a model."""

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor: ...

    def jacobian(self, t: Tensor, x: Tensor) -> Tensor: ...

    def colours(self) -> Colouring | None: ...


@dataclass(frozen=True)
class Problem:
    """A run to be done. `x0 [B, n]` carries the gradient history of parameters and initial values.

    `ensemble` says whether the solution has a member axis (B may be 1 then). `gradient` is 'none',
    'discrete', ('checkpoint', n), 'adjoint' or 'reversible'. `repeats` counts this run and those like it
    that will follow, as in training. `first` is the number of the first member, where an ensemble is computed
    in portions.
    """

    model: Model
    method: Method
    t0: float
    t1: float
    save: SavePlan
    x0: Tensor
    ensemble: bool = False
    seed: int = 0
    gradient: Any = "none"
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    max_steps: int = 1_000_000
    data_times: Mapping[str, Floats] = field(default_factory=dict)
    backend: str = "auto"
    repeats: int = 1
    first: int = 0
    noise_step: float | None = None
    """Over which increments of the noise are drawn; paths are refined inside. None: over no step, see
    `ndl.runtime.brownian`."""

    @staticmethod
    def make(
        model: Model,
        *,
        span: tuple[float, float],
        method: Method,
        save: Any = "steps",
        ensemble: int | None = None,
        seed: int = 0,
        gradient: Any = "none",
        precision: torch.dtype = torch.float64,
        device: Any = "cpu",
        max_steps: int = 1_000_000,
        data_times: Any = None,
        backend: str = "auto",
        repeats: int = 1,
        first: int = 0,
        noise_step: float | None = None,
    ) -> Problem:
        """Checks settings, moves the model, and lays out members. Raises `SettingError`."""
        t0, t1 = float(span[0]), float(span[1])
        if not (np.isfinite(t0) and np.isfinite(t1)):
            raise SettingError(f"the span {t0:g}..{t1:g} is not finite")
        device = chosen_device(device)
        if not fits(model, precision, device):
            model = moved(model, precision, device)
        # constraints are applied once, not at every evaluation
        with torch.set_grad_enabled(gradient != "none"):
            model = model.prepared()
        model = held_inputs(model, 1.0 if t1 >= t0 else -1.0)
        x0 = model.initial_state()
        if x0.dtype != precision or x0.device != device:
            x0 = x0.to(device, precision)
        if x0.ndim > 2:
            raise SettingError(f"a family has one axis of members, not {x0.ndim - 1}")
        lead = tuple(x0.shape[:1]) if x0.ndim == 2 else tuple(model.member_shape())
        family, count = bool(lead), lead[0] if lead else 1
        if ensemble is not None:
            if family and count not in (1, ensemble):
                raise SettingError(f"`ensemble = {ensemble}` meets a family of {count} members")
            count = ensemble
        x0 = x0.expand(count, x0.shape[-1])
        return Problem(
            model=model,
            method=method,
            t0=t0,
            t1=t1,
            save=SavePlan.make(save, t0, t1),
            x0=x0,
            ensemble=family or ensemble is not None,
            seed=seed,
            gradient=gradient,
            dtype=precision,
            device=device,
            max_steps=max_steps,
            data_times=_columns(data_times),
            backend=backend,
            repeats=repeats,
            first=first,
            noise_step=None if noise_step is None else _noise_step(model, noise_step, t0, t1),
        )

    @property
    def count(self) -> int:
        """B, the number of members."""
        return int(self.x0.shape[0])

    @property
    def size(self) -> int:
        """n, the length of the flat state."""
        return int(self.x0.shape[1])

    @property
    def sign(self) -> float:
        """1 when the span runs forwards, -1 when it runs backwards."""
        return 1.0 if self.t1 >= self.t0 else -1.0

    @property
    def taped(self) -> bool:
        """Whether a gradient is wanted."""
        return bool(self.gradient != "none")

    def mass(self) -> Tensor:
        """The diagonal of the mass matrix, `[n]`: 0 for algebraic states."""
        mass = torch.ones(self.size, dtype=self.dtype, device=self.device)
        for s in self.model.STATES:
            if s.algebraic:
                mass[s.places] = 0.0
        return mass

    @property
    def steady(self) -> bool:
        """Whether it has no times: a root is looked for."""
        return self.method.kind in ("root", "linear")

    @property
    def algebraic(self) -> bool:
        return any(s.algebraic for s in self.model.STATES)

    def members(self, ids: Ints | None, steps: Ints | None = None) -> Model:
        """The model of the members `ids` (None: all), with its draws for their steps number `steps`."""
        model = self.model
        if ids is not None and is_family(model):
            model = select_members(model, torch.from_numpy(ids).to(self.device), self.count)
        return model if ids is None or steps is None else at_step(model, ids, steps)

    def field(self, ids: Ints | None = None, steps: Ints | None = None) -> VectorField:
        """The vector field of the members `ids` (None: all), with the model's own Jacobian; `steps` as in
        `members`."""
        return field_of(self.members(ids, steps).prepared(), self.mass() if self.algebraic else None)

    def smooth(self, ids: Ints | None = None) -> Smooth:
        """What has the vector field whose adjoint equation is solved."""
        return self.members(ids)

    def state_name(self, place: int) -> str:
        """The name of the flat state's entry `place`, with an index where the state is a tensor."""
        for s in self.model.STATES:
            if s.offset <= place < s.offset + s.size:
                if not s.shape:
                    return str(s.name)
                index = np.unravel_index(place - s.offset, s.shape)
                return f"{s.name}[{', '.join(str(int(i)) for i in index)}]"
        return f"x[{place}]"

    def on(self, **changes: Any) -> Problem:
        """A copy with some fields replaced."""
        return replace(self, **changes)


def field_of(model: Model, mass: Tensor | None = None) -> VectorField:
    """The vector field of a model."""
    field = VectorField(model.vector_field, model.state_jacobian, None, mass)
    field.expand = model.series
    field.colours = model.colours()
    field.linear = fourier_part(model, [f for f in model.FOURIER if not f.term], model.STATES)
    if is_family(model):
        count = (*model.member_shape(), 1)[0]
        field.select = lambda rows: field_of(select_members(model, rows, count), mass)
    return field


def fits(model: Model, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether all that a model holds, nets of another training too, is in a precision and in a place."""
    if model.dtype != dtype or model.device != device:
        return False
    return all(v.device == device and (v.dtype == dtype or not v.is_floating_point()) for v in held(model))


def held(module: torch.nn.Module) -> Iterator[Tensor]:
    """The tensors of a module and of those below it; `parameters()` takes ten times as long."""
    for v in chain(module._parameters.values(), module._buffers.values()):
        if v is not None:
            yield v
    for below in module._modules.values():
        if below is not None:
            yield from held(below)


def moved(model: Model, dtype: torch.dtype, device: torch.device) -> Model:
    """The model in another precision or on another device; weights keep their gradient history."""
    from ndl.runtime.weights import view

    def move(module: Any) -> Any:
        twin = view(module)
        for table in (module._parameters, module._buffers):
            for name, value in table.items():
                if value is None:
                    continue
                floating = value.dtype.is_floating_point
                changed = value.to(device, dtype) if floating else value.to(device)
                if changed is not value:
                    twin._parameters.pop(name, None)
                    twin._buffers[name] = changed
        for name, below in module._modules.items():
            if below is not None:
                twin._modules[name] = move(below)
        return twin

    result: Model = move(model)
    return result


def _noise_step(model: Model, step: float, t0: float, t1: float) -> float:
    """A step of the noise that fits the run. Raises `SettingError`."""
    if not model.NOISES:
        raise SettingError(f"`noise_step` is for models with noise, and `{model.NAME}` has none")
    if not (np.isfinite(step) and step > 0):
        raise SettingError(f"`noise_step` is a time above 0, not {step:g}")
    if max(abs(t0), abs(t1)) / step >= MOST_CELLS:
        raise SettingError(
            f"times up to {max(abs(t0), abs(t1)):g} have too many steps of {step:g} for the noise"
        )
    return float(step)


def _columns(data_times: Any) -> dict[str, Floats]:
    """Times of data by column; a plain list serves every column (key '')."""
    if data_times is None:
        return {}
    if isinstance(data_times, Mapping):
        return {str(k): _times(v) for k, v in data_times.items()}
    return {"": _times(data_times)}


def _times(values: Any) -> Floats:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return np.asarray(array, dtype=np.float64).reshape(-1)
