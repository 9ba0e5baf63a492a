"""`ndl test --manufactured`: the order of convergence that each field model of a file shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ndl import console
from ndl.commands import _shared
from ndl.compiler.check.applications import SOLVE_SETTINGS
from ndl.compiler.diagnostics import Diagnostic, NDLError, did_you_mean

if TYPE_CHECKING:
    from ndl.host.manufactured import Study
    from ndl.session import Program


@dataclass(frozen=True)
class Asked:
    """What the command line says about the problems to solve."""

    models: tuple[str, ...] = ()
    grids: tuple[str, ...] = ()
    method: str | None = None
    settings: tuple[str, ...] = ()
    points: tuple[int, ...] = ()


def verify(path: Path, asked: Asked, **options: Any) -> tuple[list[Study], list[Diagnostic]]:
    """The studies of the field models of a file, and why others have none.

    A model that is asked for by name must have a manufactured solution; others without one are passed over
    with a note. Raises NDLError when the file does not check."""
    from ndl.host.manufactured import applied, names_of, studies

    program = _shared.load(path, **options)
    names = _names(program, asked.models, path)
    settings = _shared.settings(asked.settings)
    run = {k: v for k, v in settings.items() if k in SOLVE_SETTINGS}
    if asked.method is not None:
        run["method"] = asked.method
    values = {k: v for k, v in settings.items() if k not in SOLVE_SETTINGS}
    known = {n for name in names for n in names_of(program, name)}
    for unknown in (k for k in values if k.rstrip("'") not in known):
        offer = did_you_mean(unknown, known) or "settings are those of `solve`"
        raise click.UsageError(f"no model here has a `{unknown}` to set; {offer}")
    found: list[Study] = []
    refused: list[Diagnostic] = []
    for name in names:
        try:
            for study in studies(program, applied(program, name, values), asked.grids, run, asked.points):
                found.append(study)
        except NDLError as error:
            refused += error.diagnostics
            if not all(d.code == "NDL449" for d in error.diagnostics):
                break
    return found, refused


def _names(program: Program, wanted: Sequence[str], path: Path) -> list[str]:
    """The models to verify: those named, else those that have fields."""
    from ndl.unplaced import has_fields

    models = program._model_values()
    for name in wanted:
        if name not in models:
            offer = did_you_mean(name, models) or f"it has {', '.join(models) or 'none'}"
            raise click.UsageError(f"{path} has no model called `{name}`; {offer}")
    return list(wanted) or [n for n, m in models.items() if has_fields(m.decl)]


def row_of(path: Path, study: Study) -> dict[str, Any]:
    """A study as JSON has it."""
    return {
        "file": str(path),
        "model": study.model,
        "grid": study.grid,
        "expected": study.expected or "spectral",
        "observed": study.observed,
        "passed": study.passed,
        "rows": [{"n": r.n, "max": r.largest, "rms": r.mean, "order": r.order} for r in study.rows],
        "message": "" if study.trouble is None else str(study.trouble),
    }


def print_studies(found: Sequence[Study]) -> None:
    """A table with some lines for each model and grid."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False)
    table.add_column("model, grid", no_wrap=True)
    for name in ("n", "max error", "rms", "order", "expected", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for study in found:
        heads = [study.model, study.grid]
        lines = [[str(r.n), f"{r.largest:.2e}", f"{r.mean:.2e}", _order(r.order)] for r in study.rows]
        lines += [[""] * 4] * (len(heads) - len(lines))
        heads += [""] * (len(lines) - len(heads))
        for k, (head, line) in enumerate(zip(heads, lines)):
            last = k == len(lines) - 1
            tail = [str(study.expected or "spectral"), _verdict(study)] if last else ["", ""]
            table.add_row(head, *line, *tail, end_section=last)
    if found:
        Console().print(table)
    for study in found:
        if study.trouble is not None:
            console.show(study.trouble.diagnostics)


def _order(found: float | None) -> str:
    return "" if found is None else f"{found:.2f}"


def _verdict(study: Study) -> str:
    return "passed" if study.passed else "FAILED"
