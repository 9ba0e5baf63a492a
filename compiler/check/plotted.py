"""What the setting `plot` of a `solve` asks for: curves, phase portraits and histograms."""

from __future__ import annotations

from dataclasses import dataclass

from ndl.compiler.diagnostics import fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree

FIGURES = {
    "phase_portrait": "phase", "histogram": "histograms", "animation": "animation", "spectrum": "spectrum"
}  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """One figure: its kind (`trajectories`, `phase`, `histograms`, `animation`, `spectrum`) and its
    quantities, if any are named."""

    kind: str
    names: tuple[str, ...]
    span: Span


def plots_of(value: tree.Expr) -> list[Plot]:
    """`[x, z]`, `phase_portrait(x, z)` and lists of both: names in one list share a figure. Raises NDL522."""
    items = value.items if isinstance(value, (tree.ListExpr, tree.TupleExpr)) else (value,)
    curves = [quantity(i) for i in items if _figure(i) is None]
    found = [Plot("trajectories", tuple(curves), value.span)] if curves else []
    for item in items:
        kind = _figure(item)
        if kind is None:
            continue
        args = item.args if isinstance(item, tree.Call) else ()
        if kind == "phase" and len(args) not in (0, 2):
            raise fail(
                "NDL522",
                f"a phase portrait shows two quantities, not {len(args)}",
                item.span,
                help="write `phase_portrait(x, y)`",
            )
        found.append(Plot(kind, tuple(quantity(a.value) for a in args), item.span))
    return found


def quantity(e: tree.Expr) -> str:
    """The name of something recorded, as a solution knows it: `x`, `x'`, `left.x`, `z[0]`."""
    if isinstance(e, tree.Name):
        return e.id + "'" * e.primes
    if isinstance(e, tree.Attr):
        return f"{quantity(e.value)}.{e.name}" + "'" * e.primes
    if isinstance(e, tree.Index) and all(isinstance(i, tree.Num) for i in e.items):
        return f"{quantity(e.value)}[{', '.join(i.span.text for i in e.items)}]"
    raise fail(
        "NDL522",
        f"`{e.span.text}` is no recorded quantity",
        e.span,
        help="name it in the model, `y = …`, and plot `y`",
    )


def _figure(e: tree.Expr) -> str | None:
    name = e.func if isinstance(e, tree.Call) else e
    return FIGURES.get(name.id) if isinstance(name, tree.Name) and not name.primes else None
