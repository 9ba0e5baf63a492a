"""Distributions: the families `Model(rho ~ uniform(0, 28))`, draws, and likelihoods.

A sample is a pure function of (seed, stream, member, component), by Philox: member 5 of an ensemble is the
same whatever the ensemble's size. Samples are differentiable by the law's arguments where they depend on
them smoothly (pathwise). Arguments are numbers or tensors that broadcast against a value.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from ndl.runtime.errors import SettingError, did_you_mean
from ndl.runtime.philox import MASK, Words, normal_pair, philox, subkey, uniform53
from ndl.runtime.second_order import NO_THIRD, once
from ndl.runtime.sets import Again, drawn_points
from torch import Tensor

DOMAIN = 3  # keeps these numbers apart from the Brownian paths of the same seed

ZERO, HALF, ONE = (torch.tensor(v, dtype=torch.float64) for v in (0.0, 0.5, 1.0))

Sampler = Callable[..., Tensor]


@dataclass(frozen=True)
class Law:
    """A distribution by name, as `normal(0, 1)` in a program; checked when it is made."""

    name: str
    arguments: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in LAWS:
            raise SettingError(
                f"there is no distribution `{self.name}`",
                help=did_you_mean(self.name, LAWS) or f"distributions are {', '.join(sorted(LAWS))}",
            )
        taken = list(inspect.signature(LAWS[self.name][0]).parameters.values())[1:]
        least = sum(p.default is p.empty for p in taken)
        if not least <= len(self.arguments) <= len(taken):
            named = ", ".join(p.name for p in taken)
            raise SettingError(
                f"`{self.name}` is given {len(self.arguments)} arguments",
                help=f"write `{self.name}({named})`",
            )
        check = LAWS[self.name][2]
        trouble = check(*map(_plain, self.arguments)) if check is not None else None
        if trouble:
            raise SettingError(f"`{self.name}({', '.join(map(str, self.arguments))})`: {trouble}")

    def sample(
        self,
        count: int,
        shape: Sequence[int] = (),
        *,
        seed: int = 0,
        stream: int | str = 0,
        first: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | None = None,
    ) -> Tensor:
        """[count, *shape]: members `first`, `first + 1`, …; a `stream` is a number or a dotted name."""
        member = torch.arange(first, first + count, dtype=torch.int64, device=device)
        return self.at(member, shape, seed=seed, stream=stream).to(dtype)

    def at(
        self, member: Tensor, shape: Sequence[int], *, seed: int = 0, stream: int | str = 0, step: int = 0
    ) -> Tensor:
        """[..., *shape]: the members numbered `member [...]`; `step` is that of training, 0 outside."""
        u = numbers(member, shape, seed, stream, step)
        values = LAWS[self.name][0](u, *(_tensor(a, member.device) for a in self.arguments))
        return values.expand(*member.shape, *shape)

    def log_density(self, x: Tensor) -> Tensor:
        """The logarithm of the density (of the probability, for discrete laws) at x, elementwise."""
        density: Callable[..., Tensor] = LAWS[self.name][1]
        given = (_tensor(a, x.device) for a in self.arguments)
        return density(x, *(a if isinstance(a, str) else a.to(x.dtype) for a in given))


@dataclass(frozen=True)
class Numbers:
    """The random words behind a sample, [..., *shape]: uniforms u, v in (0, 1) and a standard normal z, which
    is a function of both; `again(k)` gives other u and v for the try number k."""

    u: Tensor
    v: Tensor
    z: Tensor
    again: Again | None = None


def numbers(
    member: Tensor,
    shape: Sequence[int],
    seed: int,
    stream: int | str,
    step: int = 0,
    places: Tensor | None = None,
) -> Numbers:
    """Independent numbers for each of the members `member [...]` and component; `places` numbers the
    components, in order if it is not given."""
    if isinstance(stream, str):
        stream = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")
    device = member.device
    one = member.reshape(-1, 1)
    in_order = torch.arange(prod(shape), dtype=torch.int64) if places is None else places.reshape(-1)
    component = in_order[None, :].to(device)
    turn = torch.tensor(step, dtype=torch.int64, device=device)
    counter = (one & MASK, (one >> 32) & MASK, component, turn)
    words = philox(counter, subkey(seed, stream, DOMAIN, device))
    full = (*member.shape, *shape)

    def again(k: int) -> tuple[Tensor, Tensor]:
        u, v = uniforms(philox(counter, subkey(seed, another(stream, k), DOMAIN, device)))
        return u.reshape(full), v.reshape(full)

    u, v = uniforms(words)
    return Numbers(u.reshape(full), v.reshape(full), normal_pair(words)[0].reshape(full), again)


def uniforms(words: Words) -> tuple[Tensor, Tensor]:
    """Two uniforms of the words of one counter."""
    return uniform53(words[0], words[1]), uniform53(words[2], words[3])


def another(stream: int, k: int) -> int:
    """The stream of the k-th further try of what a stream gives."""
    return int.from_bytes(hashlib.sha256(f"{stream} again {k}".encode()).digest()[:8], "little")


# ---------------------------------------------------------------- the laws: sample, log density, check


def _uniform(n: Numbers, low: Tensor = ZERO, high: Tensor = ONE) -> Tensor:
    return low + (high - low) * n.u


def _uniform_log(x: Tensor, low: Tensor = ZERO, high: Tensor = ONE) -> Tensor:
    inside = (x >= low) & (x <= high)
    return torch.where(inside, -torch.log(high - low), -math.inf)


def _normal(n: Numbers, mean: Tensor = ZERO, std: Tensor = ONE) -> Tensor:
    return mean + std * n.z


def _normal_log(x: Tensor, mean: Tensor = ZERO, std: Tensor = ONE) -> Tensor:
    return -0.5 * ((x - mean) / std) ** 2 - torch.log(std) - 0.5 * math.log(2 * math.pi)


def _lognormal(n: Numbers, mean: Tensor = ZERO, std: Tensor = ONE) -> Tensor:
    return torch.exp(mean + std * n.z)


def _lognormal_log(x: Tensor, mean: Tensor = ZERO, std: Tensor = ONE) -> Tensor:
    safe = torch.where(x > 0, x, 1.0)
    return torch.where(x > 0, _normal_log(torch.log(safe), mean, std) - torch.log(safe), -math.inf)


def _loguniform(n: Numbers, low: Tensor, high: Tensor) -> Tensor:
    return torch.exp(torch.log(low) + (torch.log(high) - torch.log(low)) * n.u)


def _loguniform_log(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    inside = (x >= low) & (x <= high)
    safe = torch.where(inside, x, 1.0)
    return torch.where(inside, -torch.log(safe) - torch.log(torch.log(high / low)), -math.inf)


def _exponential(n: Numbers, rate: Tensor = ONE) -> Tensor:
    return -torch.log(n.u) / rate


def _exponential_log(x: Tensor, rate: Tensor = ONE) -> Tensor:
    return torch.where(x >= 0, torch.log(rate) - rate * x, -math.inf)


def _laplace(n: Numbers, mean: Tensor = ZERO, scale: Tensor = ONE) -> Tensor:
    side = n.u - 0.5
    return mean - scale * torch.sign(side) * torch.log1p(-2 * side.abs())


def _laplace_log(x: Tensor, mean: Tensor = ZERO, scale: Tensor = ONE) -> Tensor:
    return -(x - mean).abs() / scale - torch.log(2 * scale)


def _cauchy(n: Numbers, place: Tensor = ZERO, scale: Tensor = ONE) -> Tensor:
    return place + scale * torch.tan(math.pi * (n.u - 0.5))


def _cauchy_log(x: Tensor, place: Tensor = ZERO, scale: Tensor = ONE) -> Tensor:
    return -torch.log(math.pi * scale) - torch.log1p(((x - place) / scale) ** 2)


def _student(n: Numbers, freedom: Tensor, mean: Tensor = ZERO, scale: Tensor = ONE) -> Tensor:
    """Bailey's polar form of Student's t (Math. Comp. 62, 1994): exact, of two uniforms."""
    radius = torch.sqrt(freedom * torch.expm1(-2 / freedom * torch.log(n.u)))
    return mean + scale * radius * torch.cos(2 * math.pi * n.v)


def _student_log(x: Tensor, freedom: Tensor, mean: Tensor = ZERO, scale: Tensor = ONE) -> Tensor:
    half = freedom / 2
    norm = (
        torch.lgamma(half + 0.5) - torch.lgamma(half) - 0.5 * torch.log(math.pi * freedom) - torch.log(scale)
    )
    return norm - (half + 0.5) * torch.log1p(((x - mean) / scale) ** 2 / freedom)


def _bernoulli(n: Numbers, p: Tensor = HALF) -> Tensor:
    return (n.u < p).to(torch.float64)


def _bernoulli_log(x: Tensor, p: Tensor = HALF) -> Tensor:
    return torch.where(x == 1, torch.log(p), torch.where(x == 0, torch.log1p(-p), -math.inf))


class _GammaQuantile(torch.autograd.Function):
    """x with P(a, x) = u, by bisection of log x; the derivative by a at fixed u is implicit."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, u: Tensor) -> Tensor:
        # x > 0 and P(a, x) < x^a / Gamma(a + 1) bound the quantile from below
        low = (torch.log(u) + torch.lgamma(a + 1)) / a
        high = torch.log(a + 40 + 40 * torch.sqrt(a))
        for _ in range(70):
            middle = (low + high) / 2
            below = torch.special.gammainc(a, torch.exp(middle)) < u
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        x = torch.exp(high)
        ctx.save_for_backward(a, x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        a, x = ctx.saved_tensors
        by_a: Tensor = _GammaByShape.apply(a, x)  # type: ignore[no-untyped-call]
        found: Tensor = -gradients[0] * by_a / _gamma_density(a, x)
        return found, None


def _gamma_density(a: Tensor, x: Tensor) -> Tensor:
    return torch.exp((a - 1) * torch.log(x) - x - torch.lgamma(a))


class _GammaByShape(torch.autograd.Function):
    """dP(a, x)/da by differences, of an error O(h^4), and its own derivatives."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(a, x)
        h, P = 1e-3 * a, torch.special.gammainc
        rise = [P(a + k * h, x) - P(a - k * h, x) for k in (1, 2)]
        found: Tensor = (8 * rise[0] - rise[1]) / (12 * h)
        return found

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        a, x = ctx.saved_tensors
        with torch.no_grad():
            h, P = 1e-2 * a, torch.special.gammainc
            bend = [P(a + k * h, x) - 2 * P(a, x) + P(a - k * h, x) for k in (1, 2)]
            by_x = _gamma_density(a, x) * (torch.log(x) - torch.digamma(a))
            made = g * (16 * bend[0] - bend[1]) / (12 * h * h), g * by_x
        return once("a gradient by the shape of a gamma law", NO_THIRD, made, (g, a, x))


def _standard_gamma(a: Tensor, u: Tensor) -> Tensor:
    x: Tensor = _GammaQuantile.apply(a.to(u).expand_as(u), u)  # type: ignore[no-untyped-call]
    return x


def _gamma(n: Numbers, shape: Tensor, rate: Tensor = ONE) -> Tensor:
    return _standard_gamma(shape, n.u) / rate


def _gamma_log(x: Tensor, shape: Tensor, rate: Tensor = ONE) -> Tensor:
    safe = torch.where(x > 0, x, 1.0)
    value = shape * torch.log(rate) + (shape - 1) * torch.log(safe) - rate * safe - torch.lgamma(shape)
    return torch.where(x > 0, value, -math.inf)


def _beta(n: Numbers, a: Tensor, b: Tensor) -> Tensor:
    x, y = _standard_gamma(a, n.u), _standard_gamma(b, n.v)
    return x / (x + y)


def _beta_log(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    inside = (x > 0) & (x < 1)
    safe = torch.where(inside, x, 0.5)
    norm = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
    return torch.where(inside, norm + (a - 1) * torch.log(safe) + (b - 1) * torch.log1p(-safe), -math.inf)


def _poisson(n: Numbers, rate: Tensor) -> Tensor:
    """The least k with P(N <= k) = Q(k + 1, rate) >= u, by bisection over the integers."""
    rate = rate.detach()
    low = torch.full_like(n.u, -1.0)
    high = torch.ceil(rate + 40 + 40 * torch.sqrt(rate)).to(n.u).expand_as(n.u)
    for _ in range(int(math.log2(float(high.max()) + 2)) + 2):
        middle = torch.floor((low + high) / 2)
        enough = torch.special.gammaincc(middle.clamp(min=0) + 1, rate.to(n.u).expand_as(n.u)) >= n.u
        enough = enough & (middle >= 0)
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


def _poisson_log(x: Tensor, rate: Tensor) -> Tensor:
    whole = (x >= 0) & (x == torch.floor(x))
    safe = torch.where(whole, x, 0.0)
    return torch.where(whole, torch.xlogy(safe, rate) - rate - torch.lgamma(safe + 1), -math.inf)


def _categorical(n: Numbers, weights: Tensor) -> Tensor:
    edges = torch.cumsum(weights / weights.sum(), 0).detach().to(n.u)
    return torch.searchsorted(edges, n.u.contiguous()).clamp(max=len(weights) - 1).to(torch.float64)


def _categorical_log(x: Tensor, weights: Tensor) -> Tensor:
    shares = torch.log(weights / weights.sum())
    known = (x >= 0) & (x < len(weights)) & (x == torch.floor(x))
    return torch.where(known, shares[torch.where(known, x, 0.0).long()], -math.inf)


def _choice(n: Numbers, values: Tensor) -> Tensor:
    return values[(n.u * len(values)).long().clamp(max=len(values) - 1)]


def _choice_log(x: Tensor, values: Tensor) -> Tensor:
    share = (x[..., None] == values).to(x.dtype).mean(-1)
    return torch.log(share)


def _sphere(n: Numbers, dimension: Tensor) -> Tensor:
    """Points of the unit sphere, by normals (Muller 1959)."""
    return n.z / n.z.square().sum(-1, keepdim=True).sqrt()


def _sphere_log(x: Tensor, dimension: Tensor) -> Tensor:
    half = dimension / 2
    return (torch.lgamma(half) - math.log(2) - half * math.log(math.pi)).expand(x.shape[:-1])


def _green(n: Numbers, dimension: Tensor) -> Tensor:
    """Points y of the unit ball with a density like the Green's function G(0, y) of the Laplacian there: the
    radius is sqrt(u1 u2) in the plane, with density 4 r log(1/r), and the middle one of three uniforms in
    space, with density 6 r (1 - r)."""
    u, v = n.u, n.v
    if u.shape[-1] == 2:
        angle, r = 2 * math.pi * u[..., 0], torch.sqrt(v[..., 0] * u[..., 1])
        return r[..., None] * torch.stack([torch.cos(angle), torch.sin(angle)], -1)
    up, angle = 2 * u[..., 0] - 1, 2 * math.pi * v[..., 0]
    flat = torch.sqrt(1 - up * up)
    r = torch.stack([u[..., 1], v[..., 1], u[..., 2]]).median(0).values
    return r[..., None] * torch.stack([flat * torch.cos(angle), flat * torch.sin(angle), up], -1)


def _green_log(x: Tensor, dimension: Tensor) -> Tensor:
    r = x.square().sum(-1).sqrt()
    if x.shape[-1] == 2:
        return torch.log(-torch.log(r) * 2 / math.pi)
    return torch.log((1 / r - 1) * 1.5 / math.pi)


def _green_check(dimension: float) -> str | None:
    return (
        None
        if dimension in (2, 3)
        else f"Green's function is known in 2 and 3 dimensions, not in {dimension:g}"
    )


def _inside(n: Numbers, key: str) -> Tensor:
    assert n.again is not None
    return drawn_points(n.u, n.v, n.again, key)


def _inside_log(x: Tensor, key: str) -> Tensor:
    raise SettingError("the density of points drawn from a set is not known")


def _ordered(low: float, high: float) -> str | None:
    return None if low < high else f"{low:g} is not below {high:g}"


def _positive_ordered(low: float, high: float) -> str | None:
    return "both bounds must be above 0" if low <= 0 else _ordered(low, high)


def _spread(mean: float = 0.0, std: float = 1.0) -> str | None:
    return None if not std < 0 else f"the spread {std:g} is negative"


def _rate(rate: float = 1.0) -> str | None:
    return None if not rate <= 0 else f"{rate:g} is not above 0"


def _probability(p: float = 0.5) -> str | None:
    return None if not (p < 0 or p > 1) else f"the probability {p:g} is not in 0..1"


LAWS: dict[str, tuple[Sampler, Callable[..., Tensor], Callable[..., str | None] | None]] = {
    "uniform": (_uniform, _uniform_log, lambda low=0.0, high=1.0: _ordered(low, high)),
    "normal": (_normal, _normal_log, _spread),
    "lognormal": (_lognormal, _lognormal_log, _spread),
    "loguniform": (_loguniform, _loguniform_log, _positive_ordered),
    "exponential": (_exponential, _exponential_log, _rate),
    "laplace": (_laplace, _laplace_log, _spread),
    "cauchy": (_cauchy, _cauchy_log, _spread),
    "student": (
        _student,
        _student_log,
        lambda freedom, mean=0.0, scale=1.0: _rate(freedom) or _spread(mean, scale),
    ),
    "bernoulli": (_bernoulli, _bernoulli_log, _probability),
    "gamma": (_gamma, _gamma_log, lambda shape, rate=1.0: _rate(shape) or _rate(rate)),
    "beta": (_beta, _beta_log, lambda a, b: _rate(a) or _rate(b)),
    "poisson_law": (_poisson, _poisson_log, _rate),
    "categorical": (_categorical, _categorical_log, None),
    "choice": (_choice, _choice_log, None),
    "sphere": (_sphere, _sphere_log, None),
    "green": (_green, _green_log, _green_check),
    "inside": (_inside, _inside_log, None),
}


def _tensor(value: Any, device: torch.device | None) -> Any:
    """An argument as a tensor; the name of a set stays."""
    if isinstance(value, str):
        return value
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(device)
    return torch.as_tensor(value, dtype=torch.float64, device=device)


def _plain(value: Any) -> float:
    """An argument as a number for the checks; of a tensor its mean, which an order of bounds carries to."""
    return float(_tensor(value, None).detach().mean())
