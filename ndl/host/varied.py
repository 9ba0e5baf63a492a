"""`vary = missing in [0, 0.3, 0.5]`: a `train` block for each combination of values, with results of all."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ndl.compiler.check.applications import TRAIN_SETTINGS
from ndl.compiler.check.values import ListV, RangeV, TupleV, Value, is_number
from ndl.compiler.check.varying import Setting, read_varied
from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree
from ndl.host.trained import TrainingObject, VariedObject
from ndl.runtime import results
from ndl.runtime.varied import Axis, gathered


def run_varied(
    session: Any, run: Callable[..., TrainingObject], name: str, folder: Any, progress: str, resume: bool
) -> VariedObject:
    """All trainings of a block, the last name varied fastest, each with a folder of its own."""
    names = read_varied(session.settings["vary"][0])
    sets = [_values(session, v) for v in names]
    axes = tuple(_axis(v.name, s) for v, s in zip(names, sets))
    where: Path | None = None if folder is None else folder()
    done: dict[tuple[int, ...], TrainingObject] = {}
    for place in itertools.product(*(range(len(s)) for s in sets)):
        chosen = [s[k] for s, k in zip(sets, place)]
        own = _one(session, names, [value for _, value in chosen])
        stem = _file_name("_".join(f"{v.name}-{text}" for v, (text, _) in zip(names, chosen)))
        done[place] = run(own, None if where is None else _opened(where / stem), progress, resume)
        if where is not None:
            results.write_training(where / stem, done[place].result)
    found = VariedObject(gathered(name, axes, {p: r.result for p, r in done.items()}), [*done.values()])
    found.session = session  # type: ignore[attr-defined]
    return found


def write_varied(host: Any, trained: VariedObject, folder: Path) -> None:
    """The measures of all, and a picture of each metric, beside those of the blocks that ran before."""
    from ndl.runtime.plot_varied import compared

    found = trained.result
    results.write_varied(folder, found)
    ran = [v.result for v in host.named.values() if isinstance(v, VariedObject)]
    for name in found.metrics:
        alike = [r for r in ran if name in r.mean and r.axes == found.axes]
        results.write_figure(folder, compared(name, alike), _file_name(name))


def _one(session: Any, names: list[Setting], values: list[Any]) -> Any:
    """The session of one training: varied settings take the place of the block's, all names are in scope."""
    given = {v.name: value for v, value in zip(names, values)}
    own = {k: v for k, v in given.items() if k in TRAIN_SETTINGS}
    replaced = {**session.replaced, **own}
    return replace(session, replaced=replaced, varied=given, models={}, nets={}, copies=True)


def _values(session: Any, v: Setting) -> list[tuple[str, Any]]:
    """The values of a varied name, each with its text."""
    host = session.host
    if isinstance(v.values, (tree.ListExpr, tree.TupleExpr)):
        items = v.values.items
        return [(i.span.text, host.ev.eval(i, host.module.scope)) for i in items]
    found = host.ev.known(host.ev.eval(v.values, host.module.scope))
    if isinstance(found, RangeV):
        lo, hi = (host.number(x) for x in (found.lo, found.hi))
        by = 1 if found.by is None else host.number(found.by)
        if all(is_number(x) and float(x) == int(x) for x in (lo, hi, by)) and by > 0:
            return [(str(k), k) for k in range(int(lo), int(hi) + 1, int(by))]
    if isinstance(found, (ListV, TupleV)):
        return [(str(host.number(x)), x) for x in found.items]
    if isinstance(found, Value) and found.type.rank == 1:
        return [(f"{float(x):g}", float(x)) for x in found.ref]
    raise fail("NDL526", f"the values of `{v.name}` are a list or a range of integers", v.span)


def _axis(name: str, values: list[tuple[str, Any]]) -> Axis:
    numbers = [float(x.ref) if isinstance(x, Value) and not x.type.rank else x for _, x in values]
    plain = all(is_number(x) for x in numbers)
    return Axis(name, tuple(label for label, _ in values), tuple(map(float, numbers)) if plain else None)


def _opened(place: Path) -> Callable[[], Path]:
    def make() -> Path:
        place.mkdir(parents=True, exist_ok=True)
        return place

    return make


def _file_name(text: str) -> str:
    """A text as the name of a file."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)
