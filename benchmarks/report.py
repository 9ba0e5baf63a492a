"""What was measured, with what: as tables for a terminal, and as a page for the documentation."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.measure import Process, Times

PACKAGES = ("ndl-lang", "torch", "torchdiffeq", "numpy", "lark", "sympy", "networkx")


@dataclass(frozen=True)
class Table:
    """A titled table of text; the first column names the contender."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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


def versions() -> Table:
    rows = [("Python", platform.python_version()), ("processor", _processor()), ("system", platform.system())]
    rows.append(("threads", os.environ.get("OMP_NUM_THREADS", "default")))
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
    for table in tables:
        shown = Rich(title=table.title, title_justify="left")
        for k, name in enumerate(table.header):
            shown.add_column(name, justify="left" if k == 0 else "right")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


def markdown(tables: Sequence[Table]) -> str:
    """A page; every number in it is of one run."""
    lines = [
        "# Benchmarks",
        "",
        "Measured by `python -m benchmarks --markdown docs/benchmarks.md`: contenders take",
    ]
    lines += ["turns in one process, ratios are medians of the rounds' ratios to the last row.", ""]
    for table in tables:
        lines += [f"## {table.title}", "", "| " + " | ".join(table.header) + " |"]
        lines.append("|---|" + "---:|" * (len(table.header) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in table.rows]
        lines.append("")
    return "\n".join(lines)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
