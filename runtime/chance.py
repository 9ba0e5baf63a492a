"""The draws of a model, bound for a run: one for each sample, step of the solver, or firing of an event.

A draw is a pure function of the run's seed, its name, the member, the training step and its turn, so that a
stage, a rejected step and the backward pass see the same number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from ndl.runtime.banks import banks_of, with_sets
from ndl.runtime.draws import Chance
from ndl.runtime.errors import SettingError
from ndl.runtime.info import DrawInfo
from ndl.runtime.model import Model
from ndl.runtime.weights import Part
from torch import nn

ModelT = TypeVar("ModelT", bound=Model)


def with_draws(model: ModelT, count: int | None, seed: int, step: int = 0, first: int = 0) -> ModelT:
    """The model with its draws: one for each of `count` members from the number `first` on, or for a single
    run (None); of the draws for each step, the first."""
    if not model.DRAWS:
        return model
    if count is None and model.member_shape():
        count = model.member_shape()[0]
    if count is None:
        count = listed_members(model)
    sample: Any = 0 if count is None else torch.arange(count)
    chance = Chance(seed, step, first)
    found = model.bind(**{d.name: chance.value(d, sample) for d in model.DRAWS if d.per != "firing"})
    found._given["chance"] = chance
    return found


def listed_members(model: Model) -> int | None:
    """How many members the lists of a model's family have; None without a list. Raises `SettingError` where
    the lists differ in length."""
    listed = [d for d in model.DRAWS if d.per == "member" and d.law == "members"]
    sizes = {len(d.arguments[0]): d.name for d in listed}
    if len(sizes) > 1:
        (n, a), (m, b) = list(sizes.items())[:2]
        raise SettingError(f"`{a}` lists {n} members, and `{b}` lists {m}")
    return next(iter(sizes), None)


def draws_by_step(model: Model) -> bool:
    """Whether each step has draws or weights of its own."""
    return any(d.per == "step" for d in model.DRAWS) or bool(banks_of(model))


def at_step(model: ModelT, ids: Any, steps: Any) -> ModelT:
    """The model with the draws and weights of the members `ids` in their accepted steps number `steps`, of
    one shape."""
    return _fresh(with_sets(model, steps), [d for d in model.DRAWS if d.per == "step"], ids, steps)


def at_firing(model: ModelT, event: int, ids: Any, turns: Any) -> ModelT:
    """The model with the draws of an event for the members `ids [b]` in their firings `turns [b]`."""
    fresh = [d for d in model.DRAWS if d.per == "firing" and d.event == event]
    return _fresh(model, fresh, ids, turns)


def _fresh(model: ModelT, fresh: list[DrawInfo], ids: Any, turns: Any) -> ModelT:
    if not fresh:
        return model
    chance = model._given.get("chance", Chance())
    sample, turn = (torch.from_numpy(np.asarray(v, dtype=np.int64)) for v in (ids, turns))
    return model.bind(**{d.name: chance.value(d, sample, turn) for d in fresh})


def prepare(modules: Iterable[nn.Module], training: bool, chance: Chance) -> None:
    """Tell modules and their parts whether they are being trained, and where their draws come from."""
    for module in modules:
        module.train(training)
        for below in module.modules():
            if isinstance(below, Part):
                below.chance = chance
