"""What watches a `train`: `metrics = accuracy, gap`, `monitor`, `patience`, and where they may stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk

MEASURES = ("accuracy", "macro_f1", "auroc", "confusion")
"""Metrics of a whole set of scores and labels; every other metric is the mean of a formula of one sample."""
WHOLE = ("metrics", "validate", "patience", "monitor", "least", "average", "folds", "seeds", "log")
"""Settings of a whole training, which a phase or a player cannot have of its own."""
Settings = Mapping[str, tuple[tree.Expr, Span]]


@dataclass(frozen=True)
class Metric:
    """One of `metrics`: its name, one of MEASURES or None, and what is gathered of each sample."""

    name: str
    measure: str | None
    values: tuple[tree.Expr, ...]
    span: Span


def items_of(expr: tree.Expr) -> tuple[tree.Expr, ...]:
    """The entries of `a, b` or `[a, b]`."""
    return expr.items if isinstance(expr, tree.TupleExpr | tree.ListExpr) else (expr,)


def rhythm_of(expr: tree.Expr) -> tree.Expr | None:
    """How often to look: the e of `every e` among the entries."""
    return next((i.value for i in items_of(expr) if isinstance(i, tree.Every)), None)


def read_metrics(ev: Evaluator, block: tree.Train, settings: Settings) -> list[Metric]:
    """The metrics of a block; errors name those that compare nothing."""
    if "metrics" not in settings:
        return []
    own = {
        t.id for s in block.body if isinstance(s, tree.Assign) for t in s.targets if isinstance(t, tree.Name)
    }
    found: list[Metric] = []
    for item in items_of(settings["metrics"][0]):
        if isinstance(item, tree.Every):
            continue
        metric = _metric(ev, item, block, own)
        if metric is None:
            continue
        if metric.name in {m.name for m in found}:
            shown = " ".join(item.span.text.split())
            metric = Metric(shown, metric.measure, metric.values, metric.span)
        found.append(metric)
    return found


def _metric(ev: Evaluator, item: tree.Expr, block: tree.Train, own: set[str]) -> Metric | None:
    shown = " ".join(item.span.text.split())
    call = isinstance(item, tree.Call) and isinstance(item.func, tree.Name)
    head = item.func if call else item  # type: ignore[attr-defined]
    if not isinstance(head, tree.Name) or head.id not in MEASURES or head.id in own:
        return Metric(shown, None, (item,), item.span)
    if isinstance(item, tree.Call):
        values = tuple(a.value for a in item.args)
        if len(values) != 2:
            ev.error(
                "NDL531",
                f"`{head.id}` compares scores with labels, here are {len(values)} values",
                item.span,
                help=f"write `{head.id}(final.logits, data.label)`",
            )
            return None
        return Metric(head.id, head.id, values, item.span)
    compared = next(
        (
            n
            for n in walk(block)
            if isinstance(n, tree.Call) and isinstance(n.func, tree.Name) and n.func.id == "cross_entropy"
        ),
        None,
    )
    if compared is None or len(compared.args) != 2:
        ev.error(
            "NDL531",
            f"`{head.id}` does not know what to compare: the loss has no `cross_entropy(scores, label)`",
            item.span,
            help=f"write `{head.id}(final.logits, data.label)`",
        )
        return None
    return Metric(head.id, head.id, tuple(a.value for a in compared.args), item.span)


def check_watched(ev: Evaluator, block: tree.Train, settings: Settings, scope: Scope) -> None:
    """The settings that watch a training fit together."""
    metrics = read_metrics(ev, block, settings)
    for metric in metrics:
        for value in metric.values:
            _check_metric(ev, value, scope)
    for name in ("patience", "monitor", "least"):
        if name in settings and not {"validate", "folds"} & settings.keys():
            ev.error(
                "NDL532",
                f"`{name}` watches what the training does not learn from, and nothing is held out",
                settings[name][1],
                help="write `validate = 0.2`, or give data of its own: `validate = table(…)`",
            )
    if "least" in settings and "patience" not in settings:
        ev.error(
            "NDL532", "`least` says how much better counts for `patience`", settings["least"][1],
            help="write `patience = 10`",
        )  # fmt: skip
    if "monitor" in settings:
        check_monitor(ev, settings["monitor"][0], [m.name for m in metrics])


def _check_metric(ev: Evaluator, value: tree.Expr, scope: Scope) -> None:
    if isinstance(value, tree.Name) and not value.primes and scope.find(value.id) is None:
        ev.error(
            "NDL530",
            f"there is no metric `{value.id}`",
            value.span,
            help=did_you_mean(value.id, MEASURES)
            or f"metrics are {', '.join(MEASURES)}, or a formula of one sample: `mean(abs(x - data.x))`",
        )
        return
    ev.eval(value, scope)


def check_monitor(ev: Evaluator, expr: tree.Expr, known: Sequence[str]) -> None:
    """`monitor` names `loss` or one of the metrics."""
    shown = " ".join(expr.span.text.split())
    if shown in ("loss", *known):
        return
    ev.error(
        "NDL530",
        f"`monitor` is `{shown}`, which is none of the metrics",
        expr.span,
        help=did_you_mean(shown, known) or f"add `metrics = {shown}`, or monitor the `loss`",
    )


def check_whole(ev: Evaluator, settings: Settings, where: str) -> None:
    """Refuse settings of the whole training in a phase or of a player."""
    for name in WHOLE:
        if name in settings:
            ev.error(
                "NDL535",
                f"`{name}` belongs to the whole training, not to {where}",
                settings[name][1],
                help="write it in the block itself",
            )
