"""Modules with described weights: how they start, what constrains them, and views that replace some.

A constrained weight is stored as `raw_<name>` (free, starts at 0) and `unit_<name>` (fixed, chosen so
that the starting value is met exactly); its value is `lower + unit*exp(raw)` and the like.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import prod, sqrt
from typing import Any, ClassVar, TypeVar, cast

import torch
from ndl.runtime.draws import Chance
from ndl.runtime.errors import ArgumentsError
from ndl.runtime.info import DrawInfo, ParameterInfo
from torch import Tensor, nn

DTYPES = {"R": torch.float64, "C": torch.complex128, "Z": torch.int64, "Bool": torch.bool}


def above(raw: Tensor, unit: Tensor, lower: float) -> Tensor:
    """`lower + unit*exp(raw)`; a start on the bound itself (unit 0) is moved by `raw` directly."""
    return lower + torch.where(unit > 0, unit * torch.exp(raw), unit + raw.clamp(min=0))


def below(raw: Tensor, unit: Tensor, upper: float) -> Tensor:
    """`upper - unit*exp(raw)`, the mirror image of `above`."""
    return upper - torch.where(unit > 0, unit * torch.exp(raw), unit + raw.clamp(min=0))


def between(raw: Tensor, unit: Tensor, lower: float, upper: float) -> Tensor:
    """`lower + (upper - lower)*w` with logit(w) = logit(unit) + raw, and w = unit where raw is 0."""
    inside = (unit > 0) & (unit < 1)
    safe = torch.where(inside, unit, 0.5)
    moved = safe / (safe + (1 - safe) * torch.exp(-raw))
    return lower + (upper - lower) * torch.where(inside, moved, (unit + raw).clamp(0, 1))


def constrained(raw: Tensor, unit: Tensor, lower: float | None, upper: float | None) -> Tensor:
    """The value of a constrained weight."""
    if lower is not None and upper is not None:
        return between(raw, unit, lower, upper)
    if lower is not None:
        return above(raw, unit, lower)
    return below(raw, unit, upper) if upper is not None else unit + raw


class Constrained:
    """A class attribute that reads a constrained weight. It is no data descriptor, so that a view may
    hold the value itself under the same name (see `Part.prepared`)."""

    def __init__(self, name: str, *, lower: float | None = None, upper: float | None = None) -> None:
        self.name, self.lower, self.upper = name, lower, upper

    def __get__(self, part: Any, owner: Any = None) -> Any:
        if part is None:
            return self
        raw, unit = getattr(part, f"raw_{self.name}"), getattr(part, f"unit_{self.name}")
        return constrained(raw, unit, self.lower, self.upper)


def image_unit(value: Tensor, lower: float | None, upper: float | None, name: str) -> Tensor:
    """The `unit` for which `constrained(0, unit, …)` is the value. Raises outside the bounds."""
    low = float("-inf") if lower is None else lower
    high = float("inf") if upper is None else upper
    if bool(((value < low) | (value > high)).any()):
        raise ValueError(f"`{name}` must lie in {low:g}..{high:g}, and {value.tolist()} does not")
    if lower is not None and upper is not None:
        return (value - lower) / (upper - lower)
    return value - low if lower is not None else high - value


def generator(seed: int, name: str) -> torch.Generator:
    """The random source of one weight: a function of the seed and the weight's dotted name alone."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of a weight: of a matrix [out, in], of a kernel [out, in, *window]."""
    if len(shape) < 2:
        return prod(shape), prod(shape)
    window = prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _normal(g: torch.Generator, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0) -> Tensor:
    return mean + std * torch.randn(shape, generator=g, dtype=torch.float64)


def _uniform(g: torch.Generator, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)


def _complex_normal(g: torch.Generator, shape: tuple[int, ...], std: float = 1.0) -> Tensor:
    return std * torch.randn(shape, generator=g, dtype=torch.complex128)


def _truncated_normal(
    g: torch.Generator, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0
) -> Tensor:
    """A normal law cut off two deviations from its mean."""
    edge = math.erf(2 / sqrt(2))
    return mean + std * sqrt(2) * torch.erfinv(_uniform(g, shape, -edge, edge))


def _glorot(g: torch.Generator, shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """Uniform, variance 2/(in + out): Glorot and Bengio (2010), AISTATS, eq. 16."""
    bound = gain * sqrt(6 / sum(_fans(shape)))
    return _uniform(g, shape, -bound, bound)


def _glorot_normal(g: torch.Generator, shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    return _normal(g, shape, 0.0, gain * sqrt(2 / sum(_fans(shape))))


def _he(g: torch.Generator, shape: tuple[int, ...], gain: float = sqrt(2)) -> Tensor:
    """Normal, variance 2/in: He et al. (2015), ICCV, eq. 10."""
    return _normal(g, shape, 0.0, gain / sqrt(_fans(shape)[0]))


def _he_uniform(g: torch.Generator, shape: tuple[int, ...], gain: float = sqrt(2)) -> Tensor:
    bound = gain * sqrt(3 / _fans(shape)[0])
    return _uniform(g, shape, -bound, bound)


def _lecun(g: torch.Generator, shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """Normal, variance 1/in: LeCun et al. (1998), Efficient BackProp."""
    return _he(g, shape, gain)


def _lecun_uniform(g: torch.Generator, shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    return _he_uniform(g, shape, gain)


def _fan_uniform(g: torch.Generator, shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """Uniform on ±1/sqrt(in), what layers start with in most tools."""
    bound = gain / sqrt(_fans(shape)[0])
    return _uniform(g, shape, -bound, bound)


def _orthogonal(g: torch.Generator, shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """Rows or columns of norm 1 at right angles, a kernel [out, in, *window] as a matrix of `out` rows:
    Saxe et al. (2014), ICLR."""
    rows, cols = shape[0], prod(shape[1:])
    q, r = torch.linalg.qr(_normal(g, (max(rows, cols), min(rows, cols))))
    q = q * torch.sign(torch.diagonal(r))
    matrix: Tensor = q if rows >= cols else q.mT
    return gain * matrix.reshape(shape)


def _exponential(g: torch.Generator, shape: tuple[int, ...], rate: float = 1.0) -> Tensor:
    return -torch.log1p(-_uniform(g, shape)) / rate


def _lognormal(g: torch.Generator, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0) -> Tensor:
    return torch.exp(_normal(g, shape, mean, std))


def _bernoulli(g: torch.Generator, shape: tuple[int, ...], p: float = 0.5) -> Tensor:
    return (_uniform(g, shape) < p).to(torch.float64)


LAWS: dict[str, Callable[..., Tensor]] = {
    "normal": _normal,
    "uniform": _uniform,
    "complex_normal": _complex_normal,
    "truncated_normal": _truncated_normal,
    "glorot": _glorot,
    "glorot_normal": _glorot_normal,
    "he": _he,
    "he_uniform": _he_uniform,
    "lecun": _lecun,
    "lecun_uniform": _lecun_uniform,
    "fan_uniform": _fan_uniform,
    "orthogonal": _orthogonal,
    "exponential": _exponential,
    "lognormal": _lognormal,
    "bernoulli": _bernoulli,
}


RANDOM_FIELD = "random_field"
"""The law of a weight that is a field drawn by its covariance: its waves, covariance, mean, log, and the
number of axes of its components."""


def draw(law: str, arguments: tuple[Any, ...], shape: tuple[int, ...], seed: int, name: str) -> Tensor:
    """A tensor of a law in float64 (complex128), the same whenever seed and name are."""
    if law == RANDOM_FIELD:
        from ndl.runtime.random_fields import RandomField

        parts, covariance, mean, log, rank = arguments
        field = RandomField.of(parts, covariance, mean, bool(log))
        components = shape[len(shape) - int(rank) :]
        return field.at(torch.tensor(0), components, seed=seed, stream=name)
    if law not in LAWS:
        raise ValueError(f"no law is called `{law}`; there are {', '.join(sorted(LAWS))}")
    return LAWS[law](generator(seed, name), shape, *arguments)


ModuleT = TypeVar("ModuleT", bound=nn.Module)
PartT = TypeVar("PartT", bound="Part")


def view(module: ModuleT) -> ModuleT:
    """A shallow twin: shares every tensor, but replacing one in it leaves the original alone."""
    twin: ModuleT = object.__new__(type(module))
    twin.__dict__ = dict(module.__dict__)
    for table in ("_parameters", "_buffers", "_modules"):
        twin.__dict__[table] = dict(module.__dict__[table])
    return twin


def put(module: nn.Module, attribute: str, value: Tensor) -> None:
    """Make `value`, with its gradient history, what `module.attribute` reads."""
    module._parameters.pop(attribute, None)
    module._buffers[attribute] = value


def read(module: nn.Module, attribute: str) -> Tensor:
    """`getattr` of a weight, without the detours of a module where it is a parameter."""
    found: Tensor | None = module._parameters.get(attribute)
    value: Tensor = getattr(module, attribute) if found is None else found
    return value


class Part(nn.Module):
    """A module with described weights: a generated operator, and the base of `Model`.

    `seed` and `path` (its dotted place in the model) decide the weights that are drawn.
    """

    PARAMETERS: ClassVar[tuple[ParameterInfo, ...]] = ()
    DRAWS: ClassVar[tuple[DrawInfo, ...]] = ()
    KINDS: ClassVar[tuple[str, ...]] = ()
    """Of an operator's data, R, C, Z or Bool; none: all are R."""
    NETS: ClassVar[Mapping[str, str]] = {}
    """The attributes of nets whose names Python or torch need for themselves, by the user's name."""

    def __init__(self, *, seed: int = 0, path: str = "") -> None:
        super().__init__()
        self.seed, self.path = seed, path
        self.chance = Chance(seed)
        self.training = False
        self._news: dict[str, list[Tensor]] = {}

    @classmethod
    def info(cls, name: str) -> ParameterInfo:
        """The description of the weight that the user calls `name`."""
        for p in cls.PARAMETERS:
            if p.name == name:
                return p
        raise KeyError(name)

    def place(self, name: str) -> str:
        """The dotted name of something in this part."""
        return f"{self.path}.{name}" if self.path else name

    def define(self, name: str, value: Any = None) -> None:
        """Create the weight `name`: from a number or tensor (leading axes are members), or drawn."""
        p = self.info(name)
        if value is None:
            if p.law is None:
                raise TypeError(f"`{self.place(name)}` needs a value")
            value = draw(p.law[0], p.law[1], p.shape, self.seed, self.place(name))
        tensor = shaped(value, p.shape, DTYPES[p.kind], self.place(name)).detach().clone()
        self.store(p.attribute or name, tensor, p.lower, p.upper, p.trainable, self.place(name))

    def store(
        self, attribute: str, tensor: Tensor, lower: float | None, upper: float | None, free: bool, name: str
    ) -> None:
        """Register a tensor as a buffer, a parameter, or a constrained parameter."""
        if not free:
            self.register_buffer(attribute, tensor)
        elif lower is None and upper is None:
            self.register_parameter(
                attribute,
                nn.Parameter(tensor, requires_grad=tensor.dtype.is_floating_point or tensor.is_complex()),
            )
        else:
            self.register_buffer(f"unit_{attribute}", image_unit(tensor, lower, upper, name))
            self.register_parameter(f"raw_{attribute}", nn.Parameter(torch.zeros_like(tensor)))

    def replace(self, name: str, value: Tensor) -> None:
        """Let the weight `name` be `value`, keeping the value's gradient history (used on views)."""
        p = self.info(name)
        attribute = p.attribute or name
        self.__dict__.pop(attribute, None)
        if p.constrained:
            put(self, f"unit_{attribute}", image_unit(value, p.lower, p.upper, self.place(name)))
            put(self, f"raw_{attribute}", torch.zeros_like(value))
        else:
            put(self, attribute, value)

    def prepared(self: PartT) -> PartT:
        """A view that holds the values of constrained weights, computed once, for the many evaluations
        of a run. Gradients flow through it; it does not follow later changes of the weights."""
        twin = view(self)
        for p in self.PARAMETERS:
            if p.constrained:
                twin.__dict__[p.attribute or p.name] = getattr(self, p.attribute or p.name)
        for name, module in self._modules.items():
            below: Any = module
            if hasattr(below, "prepared"):
                twin._modules[name] = below.prepared()
        return twin

    def drawn(self, name: str, like: Tensor, rank: int, given: Tensor | None) -> Tensor:
        """A draw of `forward`, [..., *shape]: what is given, else one for each sample of `like`, whose
        samples have `rank` axes."""
        if given is not None:
            return given
        info = next(d for d in self.DRAWS if d.name == name)
        lead = like.shape[: like.ndim - rank]
        sample = torch.arange(prod(lead), device=like.device).reshape(lead)
        return self.chance.value(replace(info, name=self.place(name)), sample).to(like)

    def remember(self, name: str, value: Tensor) -> None:
        """In training, note what a memory is to be after the step: the mean over samples and calls."""
        if self.training:
            rank = len(self.info(name).shape)
            lead = tuple(range(value.ndim - rank))
            value = value.detach()
            self._news.setdefault(name, []).append(value.mean(lead) if lead else value)

    def settle(self) -> None:
        """Give every memory its new value, at the end of a training step."""
        for part in self.modules():
            if isinstance(part, Part):
                for name, values in part._news.items():
                    getattr(part, part.info(name).attribute or name).copy_(torch.stack(values).mean(0))
                part._news.clear()

    def forget(self) -> None:
        """Drop what was noted in a step that is not taken."""
        for part in self.modules():
            if isinstance(part, Part):
                part._news.clear()

    def nets(self) -> dict[str, nn.Module]:
        """The nets of this part by the user's names, one with several sets of weights as `f[0]`, `f[1]`, …"""
        found: dict[str, nn.Module] = {}
        if not self._modules:
            return found
        shown = {attribute: name for name, attribute in self.NETS.items()}
        for attribute, module in self._modules.items():
            name = shown.get(attribute, attribute)
            if hasattr(type(module), "sets"):  # a `Bank`
                found |= {f"{name}[{k}]": part for k, part in enumerate(cast(Any, module).sets)}
            elif module is not None:
                found[name] = module
        return found

    def _put_net(self, name: str, net: nn.Module) -> None:
        """Let a net be another module, in this part alone."""
        base, _, rest = name.partition("[")
        attribute = self.NETS.get(base, base)
        if rest:  # one set of a `Bank`
            several = self._modules[attribute]
            assert several is not None
            bank = self._modules[attribute] = view(several)
            bank._modules[rest.rstrip("]")] = net
        else:
            self._modules[attribute] = net

    def parts(self, name: str = "") -> list[tuple[str, Part]]:
        """This part, called `name`, and those below it, with their dotted names."""
        found = [(name, self)]
        for below, net in self.nets().items():
            if isinstance(net, Part):
                found += net.parts(f"{name}.{below}" if name else below)
        return found

    def values(self) -> dict[str, Tensor]:
        """Every weight's value (constraints applied) by the user's dotted name."""
        return {name: getattr(part, attribute) for name, part, attribute in self.places()}

    def weight_value(self, name: str) -> Tensor:
        """The value (constraints applied) of the weight of that dotted name."""
        found: Tensor = next(getattr(part, a) for n, part, a in self.places() if n == name)
        return found

    def places(self) -> Iterator[tuple[str, Part, str]]:
        """Every weight's dotted name, the part that holds it and its attribute there."""
        for prefix, part in self.parts():
            for p in part.PARAMETERS:
                yield (f"{prefix}." if prefix else "") + p.name, part, p.attribute or p.name

    def weights(self) -> dict[str, nn.Parameter]:
        """What an optimiser moves, by the user's dotted name: the free image of a constrained weight."""
        found = {}
        for prefix, part in self.parts():
            for p in part.PARAMETERS:
                attribute = ("raw_" if p.constrained else "") + (p.attribute or p.name)
                tensor = part._parameters.get(attribute)
                if p.trainable and tensor is not None:
                    found[(f"{prefix}." if prefix else "") + p.name] = tensor
        return found


class Extern(nn.Module):
    """The place of a net that comes from Python; `bind` puts one there."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *values: Tensor) -> Tensor:
        raise ValueError(
            f"net `{self.name}` comes from Python: give it with `bind={{'{self.name}': module}}`"
        )


def shaped(value: Any, shape: tuple[int, ...], dtype: torch.dtype, name: str) -> Tensor:
    """A number or tensor as a tensor [..., *shape]; a number fills the shape."""
    try:
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=dtype)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentsError(f"`{name}` takes numbers, not {value!r}") from None
    if tensor.dtype != dtype and (dtype.is_complex or not tensor.is_complex()):
        tensor = tensor.to(dtype)
    if tensor.ndim < len(shape) and tensor.ndim == 0:
        return tensor.expand(shape)
    if tuple(tensor.shape[tensor.ndim - len(shape) :]) != shape:
        raise ArgumentsError(
            f"`{name}` has shape {list(shape)}, and the value given {list(tensor.shape)}",
            help="give a number, or as many values; a field takes a formula too, `x -> sin(x)`",
        )
    return tensor


def broadcast_shapes(*shapes: tuple[int, ...]) -> torch.Size:
    """torch's function of that name, typed."""
    found: torch.Size = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    return found


def members(values: Mapping[str, tuple[Tensor, int]]) -> tuple[int, ...]:
    """The common leading axes of tensors given with their ranks per sample."""
    shapes = {name: tuple(v.shape[: v.ndim - rank]) for name, (v, rank) in values.items()}
    wide = {shape for shape in shapes.values() if shape}
    if len(wide) <= 1:
        return next(iter(wide), ())
    try:
        return tuple(broadcast_shapes(*wide))
    except RuntimeError:
        listed = ", ".join(f"`{n}` {list(s)}" for n, s in shapes.items() if s)
        raise ValueError(f"members differ in number: {listed}") from None
