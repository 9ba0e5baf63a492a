"""`ndl cite`: the references of the methods that a program uses."""

from __future__ import annotations

from pathlib import Path

import click

from ndl import console
from ndl.commands import _shared
from ndl.references import references


@click.command("cite")
@click.argument("file", type=_shared.FILE)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(file: Path, as_json: bool) -> None:
    """Print the references of the solvers and optimizers that FILE names."""
    found = references(_shared.parse(file))
    if as_json:
        console.print_json(found)
        return
    if not found:
        console.say(f"{file} names no method of the standard library")
    for name, text in found.items():
        console.say(f"{name}\n" + "\n".join(f"  {line}".rstrip() for line in text.splitlines()) + "\n")
