"""What is fitted is called as the user calls it, also where Python or torch need the name for themselves."""

from __future__ import annotations

from typing import Any

import pytest
from programs import load

MODEL = """
model M:
    net start: R[2] -> R[2] = MLP(width=4, depth=1)
    net forward: R[2] -> R[2] = MLP(width=4, depth=1)
    param values = 1.0
    param raw_k = 2.0
    state x: R[2] = start([1.0, 2.0])
    state seed = 1.0
    x' = -values*x + forward(x)
    seed' = -raw_k*seed

train M:
    span      = 0..1
    method    = rk4(h=0.1)
    samples   = 1
    loss      = sum(final.x^2) + final.seed^2
    fit       = {fit}
    optimizer = sgd(lr=1)
    steps     = 1
"""


def moved(fit: str) -> set[str]:
    """The names whose values a step of training has changed."""
    program = load(MODEL.format(fit=fit))
    before = values(program.models["M"]())
    program.run()
    (found,) = program.host.named.values()
    after = values(found.model.instance)
    assert before.keys() == after.keys()
    return {name for name in before if (before[name] != after[name]).any()}


def values(instance: Any) -> dict[str, Any]:
    starts = {s.name: instance.initial(s.name) for s in instance.STATES}
    found = {**instance.values(), **{n: v for n, v in starts.items() if v is not None}}
    return {name: v.detach().float() for name, v in found.items() if name != "x"}


@pytest.mark.parametrize("name", ["start", "forward"])
def test_a_net_with_an_awkward_name(name: str) -> None:
    found = moved(name)
    assert found and all(n.startswith(f"{name}.") for n in found)


@pytest.mark.parametrize(
    "name, fit",
    [("values", "values"), ("raw_k", "raw_k"), ("seed", "initial states"), ("seed", "seed, initial states")],
)
def test_a_parameter_or_state_with_an_awkward_name(name: str, fit: str) -> None:
    assert moved(fit) == {name}


def test_all_but_a_net() -> None:
    found = moved("all except start")
    assert {"values", "raw_k"} <= found and any(n.startswith("forward.") for n in found)
    assert not any(n.startswith("start.") for n in found)


PLAYERS = (
    MODEL.split("train")[0]
    + """
train M as two:
    span      = 0..1
    method    = rk4(h=0.1)
    samples   = 1
    optimizer = sgd(lr=1)
    steps     = 1
    minimize sum(final.x^2) wrt start
    maximize final.seed^2 wrt values, raw_k
"""
)


def test_players_move_their_own() -> None:
    program = load(PLAYERS)
    before = values(program.models["M"]())
    program.run()
    (found,) = program.host.named.values()
    after = values(found.model.instance)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert "raw_k" in changed and "values" not in changed
    assert {n.partition(".")[0] for n in changed} == {"raw_k", "start"}
    assert float(after["raw_k"]) < 2


def test_a_net_by_its_own_name() -> None:
    instance = load(MODEL.format(fit="start")).models["M"]()
    name = next(n for n in instance.values() if n.startswith("start."))
    bound = instance.bind(**{name: instance.weight_value(name) * 0})
    assert not bound.weight_value(name).any() and instance.weight_value(name).any()
    assert bound.bind(start=instance.nets()["forward"]).nets()["start"] is instance.nets()["forward"]
