"""The base class of generated models: what solvers, training and plots may ask of one.

The flat state `x` has shape [..., n]; `t` is a scalar tensor or has the batch shape of `x`. Weights
have their shape per sample, or leading member axes; every method broadcasts over leading axes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable

import torch
from ndl.runtime.colouring import Colouring, colouring, components, is_sparse
from ndl.runtime.errors import ArgumentsError, MissingInput, SettingError, did_you_mean
from ndl.runtime.given_nets import alike, refuse_derivatives
from ndl.runtime.info import (
    DelayInfo,
    DerivedInfo,
    DrawInfo,
    EventInfo,
    FourierInfo,
    GridInfo,
    InputInfo,
    IntegralInfo,
    NoiseInfo,
    ObserveInfo,
    ParameterInfo,
    RequireInfo,
    State,
    TermInfo,
)
from ndl.runtime.weights import Part, constrained, image_unit, members, put, read, shaped, view
from torch import Tensor, nn

__all__ = [
    "DelayInfo",
    "DerivedInfo",
    "DrawInfo",
    "EventInfo",
    "InputInfo",
    "IntegralInfo",
    "Model",
    "NoiseInfo",
    "ParameterInfo",
    "Part",
    "Path",
    "RequireInfo",
    "State",
    "TermInfo",
]


@runtime_checkable
class Path(Protocol):
    """An input on time: `path(t, order)` is its `order`-th derivative, [..., *shape] for t of shape [...]."""

    def __call__(self, t: Tensor, order: int = 0) -> Tensor: ...


class SeriesSource(Protocol):
    """Makes `(model, t, x) -> [..., order + 1, n]`, or says why there is none, as words after “because”."""

    def make(self, order: int) -> Callable[[Any, Tensor, Tensor], Tensor] | str: ...


ModelT = TypeVar("ModelT", bound="Model")


class Model(Part):
    """A compiled model. Subclasses are generated; see the members below for what they define."""

    NAME: ClassVar[str] = ""
    FILE: ClassVar[str] = ""
    EQUATIONS: ClassVar[tuple[str, ...]] = ()
    STATES: ClassVar[tuple[State, ...]] = ()
    INPUTS: ClassVar[tuple[InputInfo, ...]] = ()
    NOISES: ClassVar[tuple[NoiseInfo, ...]] = ()
    DRAWS: ClassVar[tuple[DrawInfo, ...]] = ()
    DELAYS: ClassVar[tuple[DelayInfo, ...]] = ()
    DERIVED: ClassVar[tuple[DerivedInfo, ...]] = ()
    TERMS: ClassVar[tuple[TermInfo, ...]] = ()
    EVENTS: ClassVar[tuple[EventInfo, ...]] = ()
    REQUIRES: ClassVar[tuple[RequireInfo, ...]] = ()
    INTEGRALS: ClassVar[tuple[IntegralInfo, ...]] = ()
    OBSERVES: ClassVar[tuple[ObserveInfo, ...]] = ()
    GRIDS: ClassVar[tuple[GridInfo, ...]] = ()
    PACED: ClassVar[bool] = False  # whether `pace` tells what a Courant number is
    FOURIER: ClassVar[tuple[FourierInfo, ...]] = ()
    OUTPUTS: ClassVar[tuple[str, ...]] = ()
    BREAKS: ClassVar[int] = 0
    NOISE_KIND: ClassVar[str] = "none"
    CALCULUS: ClassVar[str] = "ito"
    JACOBIAN_SPARSITY: ClassVar[tuple[tuple[int, int], ...] | None] = None
    SERIES: ClassVar[SeriesSource | None] = None
    """Who makes `series` for an order; None: nobody."""
    DIFFERENTIATED: ClassVar[frozenset[str]] = frozenset()
    """The nets whose formulas stand in the equations, not as calls: those that are differentiated."""
    foreign: tuple[str, ...] = ()
    """The nets of an instance that are others than it was compiled with."""
    KERNELS: ClassVar[Any] = None
    FIELDS: ClassVar[Any] = None
    """Who makes this model's kernels (`ndl.runtime.kernels.request.KernelSource`); None: nobody."""

    def __new__(cls, *args: Any, **values: Any) -> Self:
        """Refuses arguments that the class does not take, with the names that it does."""
        places = list(inspect.signature(cls.__init__).parameters.values())[1:]
        known = [p.name for p in places]
        if any(p.kind is not p.KEYWORD_ONLY for p in places):  # written by hand
            return super().__new__(cls)
        if args:
            raise ArgumentsError(
                f"`{cls.NAME}` takes its values by name, and was given {args[0]!r} without one",
                help=f"names: {', '.join(known)}",
            )
        for name in values:
            if name not in known:
                raise ArgumentsError(
                    f"`{name}` is no parameter or initial value of `{cls.NAME}`",
                    help=did_you_mean(name, known) or f"names: {', '.join(known)}",
                )
        return super().__new__(cls)

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        # knows the dtype and device of a model even when it has no weights
        self.register_buffer("_anchor", torch.zeros((), dtype=torch.float64), persistent=False)
        self._given: dict[str, Any] = {}

    def forward(self, *args: Any, **values: Any) -> Tensor:
        """A model is solved, not called."""
        raise ArgumentsError(
            f"an instance of `{self.NAME}` cannot be called",
            help="`ndl.solve(model, …)` solves it, `model.vector_field(t, x)` is its rate of change, "
            f"`{self.NAME}(…)` and `model.bind(…)` set values",
        )

    # ------------------------------------------------------------ construction

    @classmethod
    def make(cls: type[ModelT], values: Mapping[str, Any] | None = None, seed: int = 0) -> ModelT:
        """An instance from values by the user's names (parameters, initial values, inputs, nets)."""
        values = dict(values or {})
        names = {p.name: p.attribute or p.name for p in cls.PARAMETERS}
        names |= {s.name: s.attribute or s.name for s in cls.STATES}
        model = cls(seed=seed, **{names[k]: values.pop(k) for k in list(values) if k in names})  # type: ignore[call-arg]
        return model.bind(**values) if values else model

    def start(self, initial: Mapping[str, Any]) -> None:
        """Store initial values of states, by user's name; None means computed by `initial_values`."""
        for name, value in initial.items():
            s = self.state(name)
            attribute = f"initial_{s.attribute or s.name}"
            if value is not None:
                tensor = self._start(s, value).detach().clone()
                self.store(attribute, tensor, s.lower, s.upper, True, name)
                self.initial_parameters()[name].requires_grad_(False)

    def _start(self, s: State, value: Any) -> Tensor:
        """An initial value as it is stored."""
        if not s.complex:
            return shaped(self.tensor(value), s.shape, self.dtype, s.name)
        wide = torch.complex128 if self.dtype == torch.float64 else torch.complex64
        given = torch.as_tensor(value, device=self.device).to(wide)
        return s.parts(shaped(given, s.seen, wide, s.name))

    @classmethod
    def state(cls, name: str) -> State:
        for s in cls.STATES:
            if s.name == name:
                return s
        raise KeyError(name)

    @classmethod
    def _origin(cls, s: State) -> State:
        """The state whose earlier value `s` holds, or `s` itself."""
        return cls._origin(cls.state(s.source)) if s.source else s

    @classmethod
    def size(cls) -> int:
        """n, the length of the flat state."""
        return sum(s.size for s in cls.STATES)

    @property
    def dtype(self) -> torch.dtype:
        return self._buffers["_anchor"].dtype  # type: ignore[union-attr]

    @property
    def device(self) -> torch.device:
        return self._buffers["_anchor"].device  # type: ignore[union-attr]

    def tensor(self, value: Any) -> Tensor:
        """A number or array as a tensor of the model's dtype and device; tensors keep their gradient."""
        if isinstance(value, Tensor):
            floating = value.dtype.is_floating_point
            return value.to(self.device, self.dtype) if floating else value.to(self.device)
        return torch.as_tensor(value, dtype=self.dtype, device=self.device)

    def bind(self: ModelT, **values: Any) -> ModelT:
        """A view with some things replaced: parameters and dotted weights, initial values, inputs
        and draws (tensors, numbers or paths), nets (modules). Weights are shared, not copied, and
        gradients flow to the tensors given. Leading axes of a value number the members."""
        twin = view(self)
        twin._given = dict(self._given)
        for name, value in values.items():
            twin._bind(name, value)
        return twin

    def _bind(self, name: str, value: Any) -> None:
        inputs = {i.name: i.shape for i in self.INPUTS} | {d.name: d.shape for d in self.DRAWS}
        if name in inputs:
            if not callable(value):
                value = shaped(self.tensor(value), inputs[name], self.dtype, name)
                self._buffers[f"_input_{name}"] = value
            self._given[name] = value
        elif any(p.name == name for p in self.PARAMETERS):
            self.replace(name, self._fitting(value, self.info(name)))
        elif any(s.name == name for s in self.STATES):
            s = self.state(name)
            tensor = self._start(s, value)
            attribute = f"initial_{s.attribute or s.name}"
            if s.lower is None and s.upper is None:
                put(self, attribute, tensor)
            else:
                put(self, f"unit_{attribute}", image_unit(tensor, s.lower, s.upper, name))
                put(self, f"raw_{attribute}", torch.zeros_like(tensor))
        elif name in self.nets() and isinstance(value, nn.Module):
            if not alike(self.nets()[name], value):
                if name in self.DIFFERENTIATED:
                    raise refuse_derivatives(self.NAME, name)
                self.foreign = (*self.foreign, name)
            self._put_net(name, value)
        elif hasattr(self._modules.get(name), "starting"):
            self._modules[name] = self._modules[name].starting(value)  # type: ignore[operator,union-attr]
        else:
            self._bind_below(name, value)

    def _bind_below(self, name: str, value: Any) -> None:
        """Replace a weight of a part by its dotted name, or refuse an unknown name."""
        *path, last = name.split(".")
        part: nn.Module = self
        for step in path:
            if not isinstance(part, Part) or step not in part.nets():
                raise self._unknown(name)
            twin = view(part.nets()[step])
            part._put_net(step, twin)
            part = twin
        if not path or not isinstance(part, Part) or all(p.name != last for p in part.PARAMETERS):
            raise self._unknown(name)
        part.replace(last, self._fitting(value, part.info(last)))

    def _fitting(self, value: Any, p: ParameterInfo) -> Tensor:
        tensor = self.tensor(value)
        return shaped(tensor, p.shape, tensor.dtype, p.name)

    def _unknown(self, name: str) -> ArgumentsError:
        known = [*self.values(), *(s.name for s in self.STATES), *(i.name for i in self.INPUTS)]
        known += [*(d.name for d in self.DRAWS), *self.nets()]
        return ArgumentsError(
            f"model `{self.NAME}` has nothing called `{name}`",
            help=did_you_mean(name, known) or f"names: {', '.join(known)}",
        )

    # ------------------------------------------------------------ values

    def input(self, name: str) -> Tensor:
        """The value of an input that is constant in time, or of a draw."""
        value = self._buffers.get(f"_input_{name}")
        if value is None:
            raise MissingInput(self.NAME, name, on_time=False, noise=name in {n.name for n in self.NOISES})
        return value

    def path_given(self, name: str) -> Path | Tensor:
        """What was given for an input on time: a path, or a number that does not change."""
        constant = self._buffers.get(f"_input_{name}")
        if constant is not None:
            return constant
        if name not in self._given:
            raise MissingInput(self.NAME, name, on_time=True)
        given: Path = self._given[name]
        return given

    def path_value(self, name: str, t: Tensor, order: int = 0) -> Tensor:
        """An input on time, or its derivative, at t, in t's precision; a number is a constant path."""
        given = self.path_given(name)
        if isinstance(given, Tensor):
            return torch.zeros_like(given) if order else given
        if not t.is_floating_point():  # a time written as a whole number
            t = t.to(self.dtype)
        value = given(t, order)
        return value.to(t.device, t.dtype) if value.is_floating_point() else value

    def initial_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters behind stored initial values, by state; frozen until `fit` frees them."""
        found = {}
        for s in self.STATES:
            attribute = f"initial_{s.attribute or s.name}"
            for key in (attribute, f"raw_{attribute}"):
                tensor = self._parameters.get(key)
                if tensor is not None:
                    found[s.name] = tensor
        return found

    def fit_initial(self, names: Sequence[str] | None = None) -> dict[str, nn.Parameter]:
        """Free the initial values of some states (all), computed ones becoming stored ones."""
        own = [s.name for s in self.STATES if not s.source]
        chosen = [name for name in own if names is None or name in names]
        stored = self.initial_parameters()
        for name in chosen:
            if name not in stored:
                self.start({name: self.state(name).value(self.initial_values()[name])})
        free = {n: p for n, p in self.initial_parameters().items() if n in chosen}
        for parameter in free.values():
            parameter.requires_grad_(True)
        return free

    def initial(self, name: str) -> Tensor | None:
        """The stored initial value of a state, [..., *shape], or None when it is computed."""
        s = self.state(name)
        attribute = f"initial_{s.attribute or s.name}"
        if s.lower is None and s.upper is None:
            return getattr(self, attribute, None)
        if not hasattr(self, f"raw_{attribute}"):
            return None
        raw, unit = getattr(self, f"raw_{attribute}"), getattr(self, f"unit_{attribute}")
        return constrained(raw, unit, s.lower, s.upper)

    def initial_values(self) -> dict[str, Tensor]:
        """Initial values that are formulas of parameters, by state (generated)."""
        return {}

    def initial_state(self) -> Tensor:
        """x at the start, [..., n], with the leading axes of every value that has some."""
        computed = self.initial_values()
        pieces: dict[str, Tensor] = {}
        for s in self.STATES:
            if s.source:
                continue
            stored = self.initial(s.name)
            value = stored if stored is not None else computed.get(s.name)
            pieces[s.name] = self.tensor(torch.zeros(s.shape) if value is None else value)
        ranks = {s.name: len(s.shape) for s in self.STATES if not s.source}
        batch = self.member_shape({name: (v, ranks[name]) for name, v in pieces.items()})
        own = [self._origin(s) for s in self.STATES]
        flat = [pieces[s.name].expand(batch + s.shape).reshape((*batch, s.size)) for s in own]
        fresh = len(flat) == 1 and self.initial(own[0].name) is None  # nobody else's memory
        if fresh:
            return flat[0]
        # a family's states one after the other in memory, as kernels want them
        return torch.cat([v.t() for v in flat]).t() if len(batch) == 1 else torch.cat(flat, -1)

    def member_shape(self, more: Mapping[str, tuple[Tensor, int]] | None = None) -> tuple[int, ...]:
        """The leading axes of a family: () for a single model, (N,) for N members."""
        found: dict[str, tuple[Tensor, int]] = dict(more or {})
        for prefix, part in self.parts():
            for p in part.PARAMETERS:
                weight = read(part, p.attribute or p.name)
                if weight.ndim != len(p.shape):
                    found[(f"{prefix}." if prefix else "") + p.name] = (weight, len(p.shape))
        shapes = {i.name: i.shape for i in self.INPUTS} | {d.name: d.shape for d in self.DRAWS}
        for name, shape in shapes.items():
            value = self._buffers.get(f"_input_{name}")
            if value is not None:
                found[name] = (value, len(shape))
            elif getattr(self._given.get(name), "family", False):
                coefficients = self._given[name].coefficients
                found[name] = (coefficients, coefficients.ndim - 1)
        return members(found)

    # ------------------------------------------------------------ what a solver asks (generated)

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        """Rates [..., n]; residuals in the places of algebraic states."""
        raise NotImplementedError(f"model `{self.NAME}` has no rates")

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """[..., n] for diagonal noise, else [..., n, m]."""
        raise NotImplementedError(f"model `{self.NAME}` has no noise")

    def forcing(self, t: Tensor, integrals: Sequence[Tensor]) -> Tensor:
        """The right side of `y(t) = …` with its integrals known, [..., n]."""
        raise NotImplementedError(f"model `{self.NAME}` has no integral equation")

    def breaks(self, t: Tensor, x: Tensor) -> Tensor:
        """[..., BREAKS]: values whose change of sign is a discontinuity of the rates."""
        return x[..., :0]

    def lags(self, t: Tensor, x: Tensor) -> Tensor:
        """[..., L]: how far back the delayed reads go."""
        return x[..., :0]

    def jacobian(self, t: Tensor, x: Tensor) -> Tensor:
        """[..., n, n] of `vector_field`: column j is the derivative along unit vector j."""
        unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)

        def column(direction: Tensor) -> Tensor:
            tangent = direction.expand(x.shape)
            result: Tensor = torch.func.jvp(lambda y: self.vector_field(t, y), (x,), (tangent,))[1]
            return result

        columns: Tensor = torch.func.vmap(column)(unit)
        return columns.movedim(0, -1)

    def state_jacobian(self, t: Tensor, x: Tensor) -> Tensor:
        """`jacobian` of the nets that there are: the derived one knows those of the model alone."""
        return Model.jacobian(self, t, x) if self.foreign else self.jacobian(t, x)

    def colours(self) -> Colouring | None:
        """How derivatives along few vectors make up the Jacobian; None where it is not sparse enough."""
        if not is_sparse(self.GRIDS, self.STATES, self.device.type):
            return None
        (grid,) = self.GRIDS
        return colouring(grid, components(grid, self.STATES))

    def series(self, t: Tensor, x: Tensor, order: int) -> Tensor:
        """Coefficients 0, …, order of the Taylor series of the solution through x at t, [..., order + 1, n]:
        the generated method `series_<order>`, or what `SERIES` makes. Raises `SettingError`."""
        made = getattr(type(self), f"series_{order}", None)
        if made is None:
            source = self.SERIES
            made = "it was not compiled with one" if source is None else source.make(order)
            if isinstance(made, str):
                raise SettingError(f"`{self.NAME}` has no Taylor series: {made}")
        value: Tensor = made(self, t, x)
        return value

    def term(self, name: str, t: Tensor, x: Tensor) -> Tensor:
        """A named part of the rates, [..., n]."""
        for info in self.TERMS:
            if info.name == name:
                value: Tensor = getattr(self, info.method)(t, x)
                return value
        raise KeyError(f"model `{self.NAME}` has no term `{name}`")

    def derived(self, name: str, t: Tensor, x: Tensor, noise: Mapping[str, Tensor] | None = None) -> Tensor:
        """A derived quantity, [..., *shape]; `noise` maps names of noises to their values."""
        for info in self.DERIVED:
            if info.name == name:
                read = [(noise or {})[n] for n in info.noises]
                value: Tensor = getattr(self, info.method)(t, x, *read)
                return value
        raise KeyError(f"model `{self.NAME}` has no quantity `{name}`")

    def observation(self, name: str, t: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """The arguments of a measurement's law, each [..., *shape]."""
        info = next(o for o in self.OBSERVES if o.name == name)
        return tuple(getattr(self, m)(t, x) for m in info.methods)

    def guard(self, k: int, t: Tensor, x: Tensor) -> Tensor:
        """The value [...] whose sign fires event k."""
        value: Tensor = getattr(self, f"guard_{k}")(t, x)
        return value

    def reset(self, k: int, t: Tensor, x: Tensor) -> Tensor:
        """x just after event k, [..., n]."""
        method = getattr(self, f"reset_{k}", None)
        return x if method is None else method(t, x)

    def period(self, k: int) -> Tensor:
        """The time between firings of event k, [...]."""
        value: Tensor = getattr(self, f"period_{k}")()
        return value

    def require(self, k: int, t: Tensor, x: Tensor) -> Tensor:
        """Whether condition k holds, Bool [...]."""
        value: Tensor = getattr(self, f"require_{k}")(t, x)
        return value

    def pace(self, t: Tensor, x: Tensor) -> Tensor:
        """The reciprocal of the step of Courant number 1, [...]."""
        value: Tensor = self.transport_pace(t, x)  # type: ignore[operator]
        return value

    def kernel(self, k: int, t: Tensor, s: Tensor, y: Tensor) -> Tensor:
        """The integrand of integral k, with `y` the flat state at s."""
        value: Tensor = getattr(self, f"kernel_{k}")(t, s, y)
        return value

    def limits(self, k: int, t: Tensor) -> tuple[Tensor, Tensor]:
        """The bounds of integral k, of t."""
        lower: Tensor = getattr(self, f"lower_{k}")(t)
        upper: Tensor = t if self.INTEGRALS[k].volterra else getattr(self, f"upper_{k}")(t)
        return lower, upper
