"""What a training fits: weights by their dotted names, and the sets of them that `fit` and `wrt` mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ndl.compiler.backends.torch.names import identifier
from ndl.compiler.diagnostics import did_you_mean, fail
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk


def parameters_of(session: Any) -> dict[str, torch.Tensor]:
    """Every weight by its dotted name; several targets put their name in front."""
    several = len(session.models) + len(session.nets) > 1
    found: dict[str, torch.Tensor] = {}
    fit = _fit_words(session)
    for name, (_, instance) in session.models.items():
        if "initial states" in fit:
            instance.fit_initial()
        for key, p in instance.named_parameters():
            if p.requires_grad:
                found[f"{name}.{key}" if several else key] = p
    for name, module in session.nets.items():
        for key, p in module.named_parameters():
            found[f"{name}.{key}" if several else key] = p
    wanted = select(session, session.settings.get("fit"), found)
    return {k: v for k, v in found.items() if wanted is None or k in wanted}


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
    joined = identifier(dotted)  # the weights of a part are attributes of its model
    found = tuple(
        n for n in known if n == dotted or n.startswith(dotted + ".") or bare(n) in (dotted, joined)
    )
    if not found:
        raise fail(
            "NDL520",
            f"nothing that can be fitted is called `{dotted}`",
            e.span,
            help=did_you_mean(dotted, [bare(n) for n in known]),
        )
    return found


def bare(name: str) -> str:
    """The user's name of a stored parameter: `raw_alpha` is `alpha`, `raw_initial_prey` `prey`."""
    head, _, last = name.rpartition(".")
    for prefix in ("raw_initial_", "initial_", "raw_"):
        if last.startswith(prefix):
            last = last[len(prefix) :]
            break
    return f"{head}.{last}" if head else last


def is_initial(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last.startswith(("initial_", "raw_initial_"))
