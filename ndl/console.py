"""What the commands print with: streams, colour, diagnostics."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click

from ndl import exits
from ndl.compiler.diagnostics import Diagnostic, render, to_json


def colored(stream: TextIO) -> bool:
    """Whether a stream gets colour: a terminal, unless `NO_COLOR` (https://no-color.org) says no."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def prepare_streams() -> None:
    """Never fail on a character that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def say(text: str = "", *, err: bool = False, style: str | None = None) -> None:
    """A line of text; `style` is a click colour, used on terminals only."""
    stream = sys.stderr if err else sys.stdout
    shown = click.style(text, fg=style) if style and colored(stream) else text
    print(shown, file=stream, flush=True)


def show(diagnostics: Sequence[Diagnostic], *, err: bool = True) -> None:
    """Diagnostics as text, a blank line after each."""
    stream = sys.stderr if err else sys.stdout
    for d in diagnostics:
        print(render(d, color=colored(stream)), end="\n\n", file=stream, flush=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output. Numbers that JSON lacks (inf, nan) become strings."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False), flush=True)


def diagnostics_json(diagnostics: Sequence[Diagnostic]) -> list[dict[str, Any]]:
    return [to_json(d) for d in diagnostics]


def count(n: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def exit_code(diagnostics: Sequence[Diagnostic]) -> int:
    """The exit code that a set of diagnostics stands for, the gravest first."""
    errors = [d for d in diagnostics if d.severity == "error"]
    if any(d.code.startswith("NDL9") for d in errors):
        return exits.INTERNAL
    if errors and all(d.code.startswith("NDL6") for d in errors):
        return exits.RUN_FAILED
    return exits.DIAGNOSTICS if errors else exits.OK


def plain(value: Any) -> Any:
    """Nested values as JSON has them: tensors and arrays become lists."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)
