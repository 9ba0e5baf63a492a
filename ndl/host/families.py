"""Families in runs: how many members a run has, and one instance drawn from a family."""

from __future__ import annotations

from typing import Any

import torch

from ndl.compiler.check.values import DistV, ModelV, Value, describe
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.source import Span
from ndl.host.objects import ModelObject
from ndl.host.random_fields import member_field


def uncounted(name: str, law: str, span: Span) -> NDLError:
    """A family of which nothing says how many members a run takes."""
    return fail(
        "NDL513",
        f"`{name} ~ {law}` is a family: say how many members it has",
        span,
        help="write `ensemble = 100`",
    )


def check_family(instance: Any, ensemble: int | None, span: Span) -> None:
    """A model with a family as a part needs as many members as are listed, or a number of them."""
    from ndl.runtime.chance import listed_members

    size = listed_members(instance)
    if size is not None and ensemble not in (None, size):
        raise fail("NDL512", f"`ensemble = {ensemble}` meets a family of {size} members", span)
    if size is not None or ensemble is not None:
        return
    drawn = next((d for d in instance.DRAWS if d.per == "member"), None)
    if drawn is not None and not instance.member_shape():
        raise uncounted(drawn.name, drawn.law, span)


def drawn_instance(host: Any, model: ModelV, name: str, seed: int, sample: int, step: int) -> ModelObject:
    """`p ~ M(k ~ law)`: one instance of a family, of listed members each with the same chance; the model's
    own draws are those of the sample too."""
    from ndl.runtime.draws import Chance, stream_of
    from ndl.runtime.info import DrawInfo

    made = host.instance(ModelV(model.decl, model.module, model.values, data=model.data))
    chance, number = Chance(seed, step), torch.tensor(sample)
    shapes = {i.name: i.shape for i in (*made.PARAMETERS, *made.STATES, *made.INPUTS)}
    values = {d.name: chance.value(d, number) for d in made.DRAWS if d.per != "firing"}
    for key, law in model.laws.items():
        if not isinstance(law, DistV):
            raise fail(
                "NDL328",
                f"`{key}` is drawn from a distribution, not from {describe(law)}",
                model.decl.name_span,
            )
        field = member_field(host, model, key, law)
        if field is not None:
            components = shapes[key][len(field.lines) :]
            stream = stream_of(DrawInfo(f"{name}.{key}"))
            values[key] = field.at(number, components, seed=seed, stream=stream, step=step)
            continue
        arguments = tuple(host.number(a) for a in law.args)
        values[key] = chance.value(DrawInfo(f"{name}.{key}", shapes[key], law.law, arguments), number)
    for key, listed in model.members.items():
        items = host.ev.value(listed, Span())
        if not isinstance(items, Value) or not items.ref.ndim:
            what = f"the members of `{key}` are a list, not {describe(listed)}"
            raise fail("NDL512", what, model.decl.name_span)
        info = DrawInfo(f"{name}.{key}", shapes[key], "members", (items.ref,), stream=f"{name}.")
        values[key] = chance.value(info, number)
    found = made.bind(**values)
    found._given["chance"] = chance
    return ModelObject(found, model, drawn=True)
