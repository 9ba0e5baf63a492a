"""`ndl fmt`: the one layout of NDL files. Comments and meaning stay as they are."""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path

import click

from ndl import console, exits
from ndl.commands import _shared
from ndl.compiler.diagnostics import Diagnostic, NDLError


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, type=_shared.FILE_OR_FOLDER)
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if a file would change.")
@click.option("--diff", is_flag=True, help="Change nothing; show what would change.")
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...], check: bool, diff: bool) -> None:
    """Format FILES in place (folders are searched, `-` is standard input to standard output)."""
    from ndl.compiler.syntax.format import format_file

    broken: list[Diagnostic] = []
    changed = 0
    for path in _shared.ndl_files(files):
        try:
            parsed = _shared.parse(path)
        except NDLError as error:
            broken.extend(error.diagnostics)
            continue
        source, text = parsed.source, format_file(parsed)
        differs = text != source.text
        changed += differs
        if diff and differs:
            _print_diff(source.path, source.text, text)
        if check:
            if differs and not diff:
                console.say(f"would format {source.path}")
        elif not diff:
            if str(path) == "-":
                sys.stdout.write(text)
            elif differs:
                replace(path, text)
                console.say(f"formatted {path}", err=True)
    console.show(broken)
    ctx.exit(exits.DIAGNOSTICS if broken or (check and changed) else exits.OK)


def _print_diff(name: str, before: str, after: str) -> None:
    tones = {"+": "green", "-": "red", "@": "cyan"}
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), name, f"{name} (formatted)", lineterm=""
    )
    for line in lines:
        console.say(line, style=tones.get(line[:1]))


def replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, keeping its permissions; a link stays a link."""
    from ndl.runtime.atomic import replacing

    target = path.resolve()
    with replacing(target) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
        os.chmod(temporary, target.stat().st_mode & 0o7777)
