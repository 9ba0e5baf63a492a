"""`ndl test`: the `test` blocks of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ndl import console, exits
from ndl.commands import _shared, verify
from ndl.compiler.diagnostics import Diagnostic, NDLError


@click.command("test")
@click.argument("files", nargs=-1, required=True, type=_shared.PROGRAM)
@click.option("-k", "title", metavar="TEXT", help="Only tests whose title contains this.")
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Only failures and the last line.")
@click.option(
    "--manufactured",
    is_flag=True,
    help="Solve forced problems whose solutions are known, on finer and finer grids.",
)
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only this model (--manufactured).")
@click.option(
    "--grid",
    "grids",
    multiple=True,
    metavar="GRID",
    help="A grid with `n` points, such as `uniform(n, order=4)` (--manufactured).",
)
@click.option("--method", help="How the forced problems are solved (--manufactured).")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value of a model's or a setting of its solve: nu=1, span=0..2 (--manufactured).",
)
@click.option("--points", metavar="N,…", help="The values of `n`, such as 16,32,64 (--manufactured).")
@_shared.import_path
@_shared.allow_path
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[Path, ...],
    title: str | None,
    as_json: bool,
    quiet: bool,
    manufactured: bool,
    models: tuple[str, ...],
    grids: tuple[str, ...],
    method: str | None,
    settings: tuple[str, ...],
    points: str | None,
    import_paths: tuple[Path, ...],
    allow_paths: tuple[Path, ...],
) -> None:
    """Run the test blocks of FILES (folders are searched).

    A module of the standard library is named as in `use`: `std.nets`; `std` stands for all of it.
    """
    if manufactured:
        if title is not None:
            raise click.UsageError("-k chooses test blocks; choose models with --model")
        asked = verify.Asked(models, grids, method, settings, _whole_numbers(points))
        folders = {"import_paths": import_paths, "allow_paths": allow_paths}
        ctx.exit(_verified(_shared.ndl_files(files), asked, as_json, folders))
    if models or grids or method or settings or points:
        raise click.UsageError("--model, --grid, --method, --set and --points belong to --manufactured")
    rows: list[dict[str, Any]] = []
    broken: list[Diagnostic] = []
    for path in _shared.ndl_files(files):
        try:
            for row in run_tests(path, title, import_paths, allow_paths):
                rows.append(row)
                if not as_json:
                    _print_row(row, quiet)
        except NDLError as error:
            broken.extend(error.diagnostics)
            if not as_json:
                console.show(error.diagnostics)
    failed = sum(not row["passed"] for row in rows)
    if as_json:
        console.print_json({"tests": rows, "diagnostics": console.diagnostics_json(broken)})
    else:
        if not rows and not broken:
            console.say("no tests" + (f" with `{title}` in the title" if title else ""))
        console.say(f"{len(rows) - failed} passed, {failed} failed")
    code = console.exit_code(broken)
    if any(row["code"].startswith("NDL9") for row in rows):
        code = exits.INTERNAL
    ctx.exit(code if code != exits.OK else exits.DIAGNOSTICS if failed else exits.OK)


def run_tests(
    path: Path, title: str | None, import_paths: tuple[Path, ...] = (), allow_paths: tuple[Path, ...] = ()
) -> Iterator[dict[str, Any]]:
    """One row a test, as they finish. Raises NDLError when the file does not check."""
    program = _shared.load(path, import_paths=import_paths, allow_paths=allow_paths)
    for result in program.test(title):
        yield {
            "file": str(path),
            "title": result.title,
            "line": result.span.line,
            "passed": result.passed,
            "seconds": round(result.seconds, 3),
            "code": "" if result.diagnostic is None else result.diagnostic.code,
            "message": str(result.message or ""),
        }


def _print_row(row: dict[str, Any], quiet: bool) -> None:
    if row["passed"]:
        if not quiet:
            console.say(f"passed  {row['title']} ({row['seconds']:.1f} s)", style="green")
        return
    console.say(f"FAILED  {row['title']} ({row['file']}:{row['line']})", style="red")
    for line in row["message"].splitlines():
        console.say(f"        {line}".rstrip())


def _whole_numbers(text: str | None) -> tuple[int, ...]:
    """`16,32,64`."""
    try:
        return tuple(int(n) for n in text.split(",")) if text else ()
    except ValueError:
        raise click.UsageError(f"--points wants whole numbers, such as 16,32,64; got `{text}`") from None


def _verified(paths: Iterator[Path], asked: verify.Asked, as_json: bool, folders: dict[str, Any]) -> int:
    """Verify the field models of files by manufactured solutions; the exit code."""
    rows: list[dict[str, Any]] = []
    broken: list[Diagnostic] = []
    for path in paths:
        try:
            found, refused = verify.verify(path, asked, **folders)
        except NDLError as error:
            found, refused = [], list(error.diagnostics)
        rows += [verify.row_of(path, study) for study in found]
        broken += refused
        if not as_json:
            verify.print_studies(found)
            console.show(refused)
    failed = sum(not row["passed"] for row in rows)
    if as_json:
        console.print_json({"manufactured": rows, "diagnostics": console.diagnostics_json(broken)})
    else:
        if not rows and not broken:
            console.say("no models with fields")
        console.say(f"{len(rows) - failed} passed, {failed} failed")
    if broken and (asked.models or any(d.code != "NDL449" for d in broken)):
        return console.exit_code(broken)
    return exits.DIAGNOSTICS if failed else exits.OK
