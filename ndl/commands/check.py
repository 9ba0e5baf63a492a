"""`ndl check`: names, types, shapes, units and equations of files, without running them.

Imports neither torch nor sympy nor networkx: editors call it at each pause of the typist.
"""

from __future__ import annotations

from pathlib import Path

import click

from ndl import console, edge
from ndl.commands import _shared
from ndl.compiler.diagnostics import Diagnostic, NDLError


@click.command("check")
@click.argument("files", nargs=-1, required=True, type=_shared.PROGRAM)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing when all is well.")
@_shared.import_path
@click.pass_context
def command(
    ctx: click.Context, files: tuple[Path, ...], form: str, quiet: bool, import_paths: tuple[Path, ...]
) -> None:
    """Check FILES (folders are searched, `-` is standard input) and report every error."""
    found: list[Diagnostic] = []
    checked = list(_shared.ndl_files(files))
    for path in checked:
        for d in check(path, import_paths):
            if d not in found:
                found.append(d)
    if form == "json":
        console.print_json(console.diagnostics_json(found))
    else:
        console.show(found, err=False)
        errors = sum(d.severity == "error" for d in found)
        if errors or not quiet:
            verdict = console.count(errors, "error") if errors else "no errors"
            console.say(f"{console.count(len(checked), 'file')} checked, {verdict}")
    ctx.exit(console.exit_code(found))


def check(path: Path, import_paths: tuple[Path, ...] = ()) -> list[Diagnostic]:
    """All findings of one file; a crash of ours is one of them, so that the other files are checked."""
    from ndl.compiler.check import check_file

    try:
        source = _shared.read_source(path)
        _, found = check_file(source, import_paths=import_paths)
        return list(found)
    except NDLError as error:
        return list(error.diagnostics)
    except Exception as error:
        return [edge.diagnose(error, ["check", str(path)])]
