"""`ndl explain NDL204` explains an error code; `ndl explain model.ndl` shows what is derived of models and
operators."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from ndl import console
from ndl.commands import _shared
from ndl.compiler.diagnostics import near


@click.command("explain")
@click.argument("subject", metavar="CODE|FILE")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
@_shared.grid
@_shared.import_path
def command(subject: str, as_json: bool, grid: str | None, import_paths: tuple[Path, ...]) -> None:
    """Explain an error CODE, or show what the compiler derived about the models of a FILE."""
    if re.fullmatch(r"(?i)NDL\d{3}", subject) and not Path(subject).exists():
        console.say(explanation_text(subject.upper()))
        return
    file = _shared.library_path(subject) or Path(subject)
    if not file.is_file():
        raise click.UsageError(f"`{subject}` is neither a file nor a code such as NDL204")
    program = _shared.load(file, import_paths=import_paths, grid=grid)
    facts = {name: program.facts(name) for name in program.models}
    operators = program.operator_facts()
    if as_json:
        console.print_json({name: dict(found) for name, found in {**facts, **operators}.items()})
        return
    for name, found in {**facts, **operators}.items():
        console.say(f"{'model' if name in facts else 'operator'} {name}")
        for line in fact_lines(found):
            console.say(f"  {line}")


def explanation_text(code: str) -> str:
    """What a code means, wrong and right side by side. Raises UsageError for an unknown code."""
    from ndl.explanations import explanations

    table = explanations()
    if code not in table:
        offer = near(code, table)
        raise click.UsageError(f"there is no error {code}" + (f"; did you mean {offer}?" if offer else ""))
    e = table[code]
    lines = [f"{code}: {e.title}", "", e.why]
    for heading, text in (("Wrong:", e.wrong), ("Right:", e.right)):
        lines += ["", heading, "", *(f"    {line}".rstrip() for line in text.splitlines())]
    return "\n".join(lines)


def fact_lines(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Headings in a column, their texts beside them; further lines of a text below its first."""
    wide = max((len(heading) for heading, _ in facts), default=0)
    lines: list[str] = []
    for heading, text in facts:
        first, *more = text.splitlines() or [""]
        lines.append(f"{heading:<{wide}}  {first}".rstrip())
        lines.extend(f"{'':<{wide}}  {line}".rstrip() for line in more)
    return lines
