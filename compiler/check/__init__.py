"""The checker: from a file to a checked program, without running anything."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndl.compiler.check.modules import Loader, Module
from ndl.compiler.diagnostics import Diagnostic, Sink
from ndl.compiler.source import Source

# The evaluator recurses over expressions and calls to a depth of its own (NDL310), some Python frames each.
RECURSION = 20_000


@dataclass(eq=False)
class Checked:
    """A program whose names, types and settings were checked."""

    module: Module
    loader: Loader
    diagnostics: list[Diagnostic]

    @property
    def ok(self) -> bool:
        return all(d.severity != "error" for d in self.diagnostics)


def check_file(
    path: str | Path | Source, *, import_paths: Iterable[str | Path] = ()
) -> tuple[Checked | None, list[Diagnostic]]:
    """Check a file (or a text in memory): the program and everything that was found, in order."""
    from ndl.compiler.check.builtins import make_builtins
    from ndl.compiler.check.check_program import check_program
    from ndl.compiler.syntax.parser import load_source

    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION))
    sink = Sink()
    loader = Loader(sink, [Path(p) for p in import_paths], make_builtins())
    if isinstance(path, Source):
        source, found = path, list[Diagnostic]()
    else:
        source, found = load_source(str(path))
    for diagnostic in found:
        sink.add(diagnostic)
    if sink.failed:
        return None, ordered(sink.found, source)
    module = loader.load(source, Path(source.path).resolve())
    check_program(module, loader, sink)
    return Checked(module, loader, sink.found), ordered(independent(sink.found), source)


WORD = re.compile(r"\w+")
# an unknown name, an equation of no state, a state without equation, a differential of nothing
FOLLOWING = ("NDL201", "NDL408", "NDL411", "NDL417", "NDL423")
# no condition on a boundary, no noise, no span, nothing to minimise: a line that cannot be read may have it
MISSING = ("NDL443", "NDL505", "NDL509", "NDL510")


def independent(found: list[Diagnostic]) -> list[Diagnostic]:
    """Without what is said of names, and of their equations, that a line with broken syntax may declare."""
    broken: dict[Source, set[str]] = {}
    for d in found:
        if d.code.startswith("NDL1") and d.severity == "error":
            text = d.span.source.line_text(d.span.line)
            broken.setdefault(d.span.source, set()).update(WORD.findall(text))

    def follows(d: Diagnostic) -> bool:
        if d.code in MISSING:
            return d.span.source in broken
        name = WORD.match(d.span.text)
        names = broken.get(d.span.source, ())
        if d.code == "NDL417" and name is not None and name[0].removeprefix("d") in names:
            return True
        return d.code in FOLLOWING and name is not None and name[0] in names

    return [d for d in found if not follows(d)]


def ordered(found: list[Diagnostic], source: Source) -> list[Diagnostic]:
    """Diagnostics of the file itself first, in the order of its text."""
    key: Any = lambda d: (d.span.source is not source, d.span.source.path, d.span.start)  # noqa: E731
    return sorted(found, key=key)
