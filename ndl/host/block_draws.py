"""Draws of a `train` block: `z: R[3] ~ normal(0, 1)`, `tau ~ choice(s.steps.t)`, `p ~ Model(…)`."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from ndl.compiler.check.covariances import check_covariance, covariance_of
from ndl.compiler.check.nearness import law_components
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.typing import resolve_type
from ndl.compiler.check.values import DistV, ModelV, describe
from ndl.compiler.diagnostics import fail
from ndl.compiler.lower.regions import known_law
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor
from ndl.host.builder import lift
from ndl.host.compiled import register_sets
from ndl.host.families import drawn_instance
from ndl.host.random_fields import block_field, block_points
from ndl.host.sample import One, Sample, Unshared, batched
from ndl.runtime.draws import draw
from ndl.runtime.random_fields import RandomField
from ndl.runtime.random_fields import places as places_of


def block_draw(moment: Any, stmt: tree.Draw, scope: Scope, sample: Sample | None) -> Any:
    """A draw of the block: fresh in each step, or fixed for each of `samples = N`."""
    host, seed = moment.host, moment.loss.seed
    step = 0 if moment.session.whole("samples") is not None else moment.step
    law = host.ev.eval(stmt.law, scope)
    every = torch.arange(moment.count) if moment.batch.index is None else moment.batch.index
    numbers = every.to(host.run_device)
    if isinstance(law, ModelV):
        if sample is not None and sample.shared():
            raise Unshared
        number = int(numbers[sample.k]) if isinstance(sample, One) else 0
        return drawn_instance(host, law, stmt.name, seed, number, step)
    if not isinstance(law, DistV):
        raise fail(
            "NDL328",
            f"`{stmt.name}` is drawn from a distribution or a family, not from {describe(law)}",
            stmt.law.span,
        )
    type_ = resolve_type(host.ev, stmt.type, moment.session.scope) if stmt.type is not None else None
    law, own = points_law(host.ev, law, stmt.law.span)
    shape = type_.extents if isinstance(type_, Tensor) else own
    stream = int.from_bytes(hashlib.sha256(stmt.name.encode()).digest()[:4], "big")
    if covariance_of(law) is not None:
        check_covariance(host.ev, stmt.name, law, type_ if isinstance(type_, Tensor) else Tensor(), stmt.span)
        assert isinstance(type_, Tensor)
        field = block_field(moment.session, law, type_, stmt.name, law.span or stmt.span)
        normals = _numbers(field, (*field.waves, *shape), (), seed, stream, sample, step, numbers)
        return lift(field.made(normals, len(shape)).to(moment.loss.precision))
    if isinstance(type_, Tensor) and type_.on is not None:
        shape = (*block_points(moment.session, type_, stmt.name, stmt.span), *shape)
    arguments = tuple(
        torch.where(a.mask, a.ref, torch.nan) if getattr(a, "mask", None) is not None else host.number(a)
        for a in law.args
    )
    name = law.law
    if name == "choice" and len(arguments) == 1 and isinstance(arguments[0], torch.Tensor):
        # one of the values that are there, so that steps of runs of different lengths can be drawn
        (values,) = arguments
        u = _numbers("uniform", (), (), seed, stream, sample, step, numbers)
        many = (~torch.isnan(values)).sum(-1)
        place = (u * many).long().clamp(max=values.shape[-1] - 1)
        return lift(values.gather(-1, place[None])[0].to(moment.loss.precision))
    value = _numbers(name, shape, arguments, seed, stream, sample, step, numbers)
    return lift(value.to(moment.loss.precision))


def points_law(ev: Any, law: DistV, span: Any) -> tuple[DistV, tuple[int, ...]]:
    """A law as the run knows it, and the shape of a draw that the law itself tells."""
    count = law_components(ev, law)
    found = known_law(ev, law, span)
    if found.law == "inside":
        register_sets()
    return found, (count,) if count else ()


def _numbers(
    law: str | RandomField,
    shape: Any,
    arguments: Any,
    seed: int,
    stream: int,
    sample: Any,
    step: int,
    numbers: Any,
) -> torch.Tensor:
    """The number of a sample; its arguments may be the sample's own. Of a random field the numbers behind its
    waves."""
    more: dict[str, Any] = {"seed": seed, "stream": stream, "step": step, "device": numbers.device}
    if isinstance(law, RandomField):
        more["places"] = places_of(shape, len(law.lines))
        law = "normal"
    if sample is None or not sample.shared():
        number = 0 if sample is None else int(numbers[sample.k])
        return draw(law, shape, *arguments, sample=number, **more)
    own = [a for a in arguments if batched(a)]

    def run(_: Any, *given: torch.Tensor) -> tuple[torch.Tensor]:
        rest = iter(given)
        filled = [next(rest) if batched_at else a for a, batched_at in zip(arguments, places)]
        wide = [a.reshape(*a.shape[:1], *(1,) * (len(shape) + 1 - a.ndim), *a.shape[1:]) if at else a
                for a, at in zip(filled, places)]  # fmt: skip
        return (draw(law, shape, *wide, sample=numbers, **more),)

    places = [batched(a) for a in arguments]
    found: torch.Tensor = sample.whole(run, *own)[0]
    return found
