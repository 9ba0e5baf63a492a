"""`seeds = 5`, `folds = 10`: one training several times, each with weights of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ndl.compiler.check.values import ListV, TupleV, is_number
from ndl.compiler.diagnostics import fail
from ndl.host.targets import precision_of, read_data
from ndl.host.trained import RepeatedObject, TrainingObject
from ndl.report import fitted
from ndl.runtime import results
from ndl.runtime.checkpoints import latest
from ndl.runtime.repeats import Repeats, best_of, folds_of, row_of

Single = Callable[..., TrainingObject]


def repeats(session: Any) -> bool:
    """Whether a block is run several times."""
    return session.value("seeds") is not None or session.value("folds") is not None


def run_repeated(session: Any, single: Single, folder: Any, progress: str, resume: bool) -> RepeatedObject:
    """All runs; the result is that of the best one, with the numbers of all."""
    runs = _plan(session)
    where: Path | None = None if folder is None else folder()
    done: list[TrainingObject] = []
    rows: list[dict[str, Any]] = []
    kept: list[Any] = []
    with own_nets(session.host) as start:
        for k, (seed, fold, held) in enumerate(runs):
            nets = start()
            own = replace(
                session,
                replaced={**session.replaced, "seed": seed},
                models={},
                nets={},
                fold=held,
                copies=True,
            )
            place = None if where is None else where / _name(seed, fold)
            again = resume and place is not None and latest(place / "checkpoints") is not None
            made = None if place is None else _opened(place)
            trained = single(own, made, progress, again)
            rows.append(row_of(k + 1, seed, fold, trained.result))
            if place is not None:
                model = getattr(trained.model, "instance", None)
                results.write_training(place, trained.result, dict(fitted(model)) if model else {})
            done.append(trained)
            kept.append(nets)
        best = _best(session, done, rows)
        start(kept[best])
    table = Repeats(tuple(rows))
    result = replace(done[best].result, repeats=table)
    found = RepeatedObject(result, done[best].model, done)
    found.session, found.last = done[best].session, done[best].last  # type: ignore[attr-defined]
    return found


def _opened(place: Path) -> Callable[[], Path]:
    def make() -> Path:
        place.mkdir(parents=True, exist_ok=True)
        return place

    return make


def _name(seed: int, fold: int | None) -> str:
    return f"seed-{seed}" if fold is None else f"seed-{seed}_fold-{fold}"


def _plan(session: Any) -> list[tuple[int, int | None, tuple[int, ...] | None]]:
    """(seed, number of the fold, samples held out) of each run."""
    seeds = _seeds(session)
    count = session.whole("folds")
    if count is None:
        return [(seed, None, None) for seed in seeds]
    if session.validation_given():
        raise fail(
            "NDL533",
            "`folds` hold out samples in turn, and `validate` others",
            session.settings["folds"][1],
            help="leave `validate` out, or say only how often: `validate = every 50`",
        )
    read_data(session, precision_of(session))
    samples = session.whole("samples") if session.table is None else session.table.samples
    parts = folds_of(samples, count, session.whole("seed") or 0)
    return [(seed, k + 1, part) for seed in seeds for k, part in enumerate(parts)]


def _seeds(session: Any) -> list[int]:
    """`seeds = 3` counts on from `seed`; `seeds = [1, 5, 7]` names them."""
    value, first = session.value("seeds"), session.whole("seed") or 0
    if value is None:
        return [first]
    where = session.settings["seeds"][0].span if "seeds" in session.settings else session.block.span
    listed = value.items if isinstance(value, ListV | TupleV) else None
    numbers = [session.host.number(v) for v in (listed if listed is not None else (value,))]
    if not all(is_number(n) and float(n) == int(n) and int(n) >= 0 for n in numbers):
        raise fail("NDL533", "`seeds` is a number of runs, or a list of whole numbers", where,
                   help="write `seeds = 5` or `seeds = [1, 2, 3]`")  # fmt: skip
    seeds = [int(n) for n in numbers] if listed is not None else list(range(first, first + int(numbers[0])))
    if not seeds or len(set(seeds)) < len(seeds):
        what = "`seeds` has none" if not seeds else "`seeds` has the same seed twice, which is the same run"
        raise fail("NDL533", what, where, help="write `seeds = 5` or `seeds = [1, 2, 3]`")
    return seeds


def _best(session: Any, done: list[TrainingObject], rows: list[dict[str, Any]]) -> int:
    """The best run: by `monitor`, else by validation, else by the loss."""
    from ndl.compiler.check.watched import read_metrics
    from ndl.runtime.metrics import MEASURES

    metric = session.setting_text("monitor")
    if metric not in (None, "loss"):
        found = {m.name: m.measure for m in read_metrics(session.host.ev, session.block, session.settings)}
        measure = found.get(metric)
        return best_of(rows, metric, -1 if measure is None else MEASURES[measure].better)
    return best_of(rows, "validation" if "validation" in rows[0] else "loss", -1)


@contextmanager
def own_nets(host: Any) -> Iterator[Callable[..., Any]]:
    """Gives a function that sets up the nets of a run: copies of those that there are, in place of nets
    that another run has trained; or, given those of a run, takes these. Modules bound from Python get the
    weights of the last that were taken."""
    before, bound = dict(host.nets), dict(host.bind)

    def start(nets: Any = None) -> Any:
        if nets is None:
            nets = (copy.deepcopy(before), copy.deepcopy(bound))
        host.nets = nets[0]
        host.bind.update(nets[1])
        return nets

    try:
        yield start
    finally:
        for name, module in bound.items():
            if host.bind[name] is not module:
                module.load_state_dict(host.bind[name].state_dict())
                host.bind[name] = module
