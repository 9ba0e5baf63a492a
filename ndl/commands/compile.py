"""`ndl compile`: the Python module that a program becomes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ndl import console
from ndl.commands import _shared


@click.command("compile")
@click.argument("file", type=_shared.FILE)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write here, not to standard output.",
)
@_shared.import_path
def command(file: Path, output: Path | None, import_paths: tuple[Path, ...]) -> None:
    """Compile FILE to a Python module that imports only torch and ndl.runtime."""
    text = _shared.load(file, import_paths=import_paths).python_source()
    if output is None:
        sys.stdout.write(text)
        return
    output.write_text(text, encoding="utf-8")
    console.say(f"wrote {output}", err=True)
