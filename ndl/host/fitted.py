"""What a training fits: weights by their dotted names, and the sets of them that `fit` and `wrt` mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ndl.compiler.diagnostics import did_you_mean, fail
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.runtime.model import Model
from ndl.runtime.weights import Part


def parameters_of(session: Any) -> dict[str, torch.Tensor]:
    """Every weight by its dotted name; several targets put their name in front."""
    several = len(session.models) + len(session.nets) > 1
    found: dict[str, torch.Tensor] = {}
    fit = _fit_words(session)
    for name, (_, instance) in session.models.items():
        if "initial states" in fit:
            instance.fit_initial()
        for key, p in learnable(instance).items():
            if p.requires_grad:
                found[f"{name}.{key}" if several else key] = p
    for name, module in session.nets.items():
        for key, p in learnable(module).items():
            found[f"{name}.{key}" if several else key] = p
    wanted = select(session, session.settings.get("fit"), found)
    return {k: v for k, v in found.items() if wanted is None or k in wanted}


INITIAL = "initial "
"""Before the name of a state whose initial value is a parameter."""


def learnable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a module by the user's dotted names: a weight's or, after `INITIAL`, a state's."""
    if not isinstance(module, Part):
        return dict(module.named_parameters())
    found: dict[str, nn.Parameter] = {}
    for p in module.PARAMETERS:
        attribute = p.attribute or p.name
        for key in (attribute, f"raw_{attribute}"):
            tensor = module._parameters.get(key)
            if tensor is not None:
                found[p.name] = tensor
    if isinstance(module, Model):
        found |= {INITIAL + name: p for name, p in module.initial_parameters().items()}
    for name, net in module.nets().items():
        found |= {f"{name}.{key}": p for key, p in learnable(net).items()}
    return found


def _fit_words(session: Any) -> set[str]:
    if "fit" not in session.settings:
        return set()
    return {n.name for n in walk(session.settings["fit"][0]) if isinstance(n, tree.Words)}


def select(session: Any, setting: Any, known: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names that a `fit` or `wrt` set means; None: all."""
    if setting is None:
        return None
    expr = setting[0] if isinstance(setting, tuple) else setting
    return _selected(expr, tuple(known))


def _selected(e: tree.Expr, known: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(e, (tree.TupleExpr, tree.ListExpr)):
        return tuple(dict.fromkeys(n for item in e.items for n in _selected(item, known)))
    if isinstance(e, tree.Words):
        starts = tuple(n for n in known if is_initial(n))
        return starts if e.name == "initial states" else known
    if isinstance(e, tree.Except):
        left = _selected(e.value, known)
        out = {n for x in e.excluded for n in _selected(x, known)}
        return tuple(n for n in left if n not in out)
    dotted = "".join(e.span.text.split())
    below = (dotted + ".", dotted + "[")
    found = tuple(n for n in known if n.startswith(below) or bare(n) == dotted)
    if not found:
        raise fail(
            "NDL520",
            f"nothing that can be fitted is called `{dotted}`",
            e.span,
            help=did_you_mean(dotted, [bare(n) for n in known])
            or f"{', '.join(f'`{bare(n)}`' for n in known[:6])} can be; initial values are `initial states`",
        )
    return found


def bare(name: str) -> str:
    """The user's name of what can be fitted: that of the state for an initial value."""
    head, initial, state = name.rpartition(INITIAL)
    return head + state if initial else name


def is_initial(name: str) -> bool:
    return INITIAL in name
