"""`ndl fix`: bring files to the current edition of the language."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ndl import console, exits
from ndl.commands import _shared
from ndl.commands.fmt import replace
from ndl.compiler.diagnostics import Diagnostic, NDLError

EDITION = 2026  # the only one so far: there is nothing yet to rewrite but the number


@click.command("fix")
@click.argument("files", nargs=-1, required=True, type=_shared.FILE_OR_FOLDER)
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if a file would change.")
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...], check: bool) -> None:
    """Rewrite FILES to the current edition of the language."""
    broken: list[Diagnostic] = []
    changed = 0
    for path in _shared.ndl_files(files):
        try:
            text = _shared.read_source(path).text
            after = to_edition(text)
            _verify(path, after)
        except NDLError as error:
            broken.extend(error.diagnostics)
            continue
        if after != text:
            changed += 1
            if not check:
                replace(path, after)
            console.say(f"{'would bring' if check else 'brought'} {path} to edition {EDITION}")
    console.show(broken)
    if not broken and not changed:
        console.say(f"already of edition {EDITION}")
    ctx.exit(exits.DIAGNOSTICS if broken or (check and changed) else exits.OK)


def to_edition(text: str) -> str:
    """The text with its first line naming the current edition."""
    if re.match(r"edition[ ]+\d+", text):
        return re.sub(r"^edition[ ]+\d+", f"edition {EDITION}", text, count=1)
    return f"edition {EDITION}\n{text}"


def _verify(path: Path, text: str) -> None:
    """Raises NDLError when the text does not parse: a broken file is left alone."""
    from ndl.compiler.source import Source
    from ndl.compiler.syntax.parser import parse

    _shared.raise_errors(parse(Source(str(path), text))[1])
