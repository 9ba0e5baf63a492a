"""What was measured, with what: as tables for a terminal, and as a page for the documentation."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.contest import NDL, PEER, Outcome, Result, best_peer, speed, usual
from benchmarks.measure import Process, Times
from benchmarks.rulers.build import cores
from benchmarks.spirals import RATES, REQUIRED, Found

PACKAGES = (
    *("ndl-lang", "torch", "torchdiffeq", "torchode", "torchsde", "torchcde", "jax", "diffrax", "heyoka"),
    *("scipy", "numpy", "lark", "sympy", "networkx"),
)
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


@dataclass(frozen=True)
class Table:
    """A titled table of text, with a note below it; the first column names the contender."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def fit_table(found: Mapping[str, Times]) -> Table:
    """Medians, quartiles, and ratios to the last contender, round by round."""
    reference = list(found.values())[-1]
    rows = []
    for name, times in found.items():
        low, high = (f"{1e3 * q:.1f}" for q in times.quartiles)
        rows.append((name, f"{1e3 * times.median:.1f}", f"{low}–{high}", f"{times.ratio(reference):.2f}"))
    header = ("one fit step", "median, ms", "quartiles, ms", "ratio")
    return Table("Lotka–Volterra, forward and backward", header, tuple(rows))


def latency_table(found: Mapping[str, Process]) -> Table:
    rows = [
        (name, f"{p.wall.median:.2f}", f"{p.processor.median:.2f}", f"{max(p.processor.seconds):.2f}")
        for name, p in found.items()
    ]
    header = ("fresh process", "wall, s", "processor, s", "worst processor, s")
    return Table("Latency of the command line", header, tuple(rows))


def spirals_table(found: Mapping[str, Found]) -> Table:
    """Medians over seeds at each share of missing values, what is asked, and whether it is met."""
    rows = []
    for name, f in found.items():
        asked = REQUIRED[name]
        wanted = "0.5 ± 0.07" if asked is None else ", ".join(f"{a:.2f}" for a in asked)
        shown = [f"{m:.3f}" for m in f.medians]
        rows.append((name, *shown, wanted, "yes" if f.good else "no"))
    header = ("model", *(f"{r:.0%} missing" for r in RATES), "asked", "met")
    seeds = len(next(iter(found.values())).accuracies)
    note = f"Medians of {seeds} seeds of the share of right answers on 1,000 new spirals."
    return Table("The sense of rotation of spirals", header, tuple(rows), note)


def work_table(result: Result) -> Table:
    """Times, errors, and how many times faster than the usual library and the best of the peers."""
    reference, best = usual(result), best_peer(result)
    rows = [_work_row(result, o, reference, best) for o in result.outcomes]
    header = ("contestant", "median, ms", "quartiles, ms", "first, s", "error", "× usual", "× best peer")
    note = f"Error: {result.work.error_name}. Best peer: {best.name if best else 'none'}."
    if result.others is not None:
        busy = (
            " of the machine: too many for these times to be of use" if result.others > 0.1 * cores() else ""
        )
        note += f" Others used {result.others:.2f} cores{busy}."
    return Table(result.work.title, header, tuple(rows), note + result.work.remark())


def _work_row(result: Result, o: Outcome, reference: Outcome | None, best: Outcome | None) -> tuple[str, ...]:
    name = o.name if o.kind in (NDL, PEER) else f"{o.name} ({o.kind})"
    if o.times is None or o.first is None or o.error is None:
        return name, o.note, "", "", "", "", ""
    low, high = o.times.quartiles
    spread = o.note or f"{_ms(low)}–{_ms(high)}"
    ratios = (speed(result.work, o, reference), speed(result.work, o, best))
    shown = ["—" if r is None else f"{r:.2g}" if r < 10 else f"{r:,.0f}" for r in ratios]
    wrong = "" if o.error <= result.work.limit else " wrong"
    return name, _ms(o.times.median), spread, f"{o.first:.2f}", f"{o.error:.1e}{wrong}", *shown


def _ms(seconds: float) -> str:
    """Three digits, and all of those before the point."""
    value = 1e3 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def versions(load: float) -> Table:
    rows = [("Python", platform.python_version()), ("processor", _processor()), ("system", platform.system())]
    rows.append(("threads", str(cores())))
    rows.append(("load when the run began", f"{load:.2f}"))
    for name in PACKAGES:
        try:
            rows.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append((name, "absent"))
    return Table("Versions", ("what", "version"), tuple(rows))


def show(tables: Sequence[Table]) -> None:
    """Print with rich."""
    from rich.console import Console
    from rich.table import Table as Rich

    console = Console()
    console.width = max(console.width, 120)
    for table in tables:
        shown = Rich(title=table.title, title_justify="left")
        for k, name in enumerate(table.header):
            shown.add_column(name, justify="left" if k == 0 else "right")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
        if table.note:
            console.print(table.note)


def markdown(tables: Sequence[Table]) -> str:
    """Sections of a page; every number in them is of one run."""
    lines = []
    for table in tables:
        lines += [f"### {table.title}", "", "| " + " | ".join(table.header) + " |"]
        lines.append("|---|" + "---:|" * (len(table.header) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in table.rows]
        lines += ["", *((table.note, "") if table.note else ())]
    return "\n".join(lines)


def put(page: Path, tables: Sequence[Table]) -> None:
    """Write the tables between the page's marks, or a page of them alone."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    if BEGIN not in old or END not in old:
        old = f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    before, after = old.split(BEGIN)[0], old.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{markdown(tables)}\n{END}{after}", encoding="utf-8")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
