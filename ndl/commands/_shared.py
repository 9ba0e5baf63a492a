"""Arguments and options that several commands have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ndl.compiler.diagnostics import Diagnostic, NDLError, fail
from ndl.compiler.source import Source, Span

if TYPE_CHECKING:
    from ndl.compiler.syntax import tree
    from ndl.session import Program

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FILE_OR_FOLDER = click.Path(exists=True, allow_dash=True, path_type=Path)


class ProgramName(click.Path):
    """A file, a folder, or a module of the standard library: `std`, `std.nets`, `std.nets.dense`."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        found = library_path(str(value))
        if found is not None and found.is_dir() and not self.dir_okay:
            names = ", ".join(f"{value}.{p.stem}" for p in sorted(found.glob("*.ndl")))
            self.fail(f"`{value}` has several modules: {names or 'in folders of its own'}", param, ctx)
        return found or Path(str(super().convert(value, param, ctx)))


PROGRAM = ProgramName(exists=True, allow_dash=True, path_type=Path)
ONE_PROGRAM = ProgramName(exists=True, dir_okay=False, path_type=Path)


def library_path(name: str) -> Path | None:
    """Where a module of the standard library stands; None for other names, and where a file has the name."""
    from ndl.compiler.check.modules import stdlib_folder

    parts = name.split(".")
    if parts[0] != "std" or Path(name).exists():
        return None
    base = stdlib_folder().joinpath(*parts[1:])
    return next((p for p in (base, base.with_name(base.name + ".ndl")) if p.exists()), None)


def import_path(command: F) -> F:
    """`-I FOLDER`, where `use` looks besides the standard library."""
    return click.option(
        "-I",
        "--import-path",
        "import_paths",
        multiple=True,
        metavar="FOLDER",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Also look for modules in this folder.",
    )(command)


def allow_path(command: F) -> F:
    """`--allow-path PATH`, which lifts the fence around a program's own folder."""
    return click.option(
        "--allow-path",
        "allow_paths",
        multiple=True,
        metavar="PATH",
        type=click.Path(path_type=Path),
        help="Let the program read and write below this path too.",
    )(command)


def grid(command: F) -> F:
    """`--grid GRID`, where fields of the models are stored."""
    return click.option(
        "--grid", metavar="GRID", help="Where fields are stored, such as `uniform(65)` or `fourier(64)`."
    )(command)


def ndl_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The paths, with each folder replaced by the `.ndl` files below it, in order of name."""
    for path in paths:
        if path.is_dir():
            yield from sorted(
                p for p in path.rglob("*.ndl") if not any(part.startswith(".") for part in p.parts[1:])
            )
        else:
            yield path


def read_source(path: Path) -> Source:
    """The text of a file, or of standard input for `-`. Raises NDLError when it is not UTF-8."""
    if str(path) != "-":
        from ndl.compiler.syntax.parser import load_source

        source, found = load_source(str(path))
        raise_errors(found)
        return source
    raw = sys.stdin.buffer.read()
    try:
        return Source("<stdin>", raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        source = Source("<stdin>", raw.decode("utf-8", errors="replace"))
        at = len(raw[: error.start].decode("utf-8"))
        raise fail("NDL101", "standard input is not UTF-8", Span(source, at, at + 1)) from None


def parse(path: Path) -> tree.File:
    """The syntax tree of a file. Raises NDLError with all that is wrong with its text."""
    from ndl.compiler.syntax.parser import parse as parse_source

    parsed, found = parse_source(read_source(path))
    raise_errors(found)
    return parsed


def raise_errors(found: Iterable[Diagnostic]) -> None:
    """Raises NDLError if any of the findings is an error."""
    all_of_them = list(found)
    if any(d.severity == "error" for d in all_of_them):
        raise NDLError(all_of_them)


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """`--set a.b.c=VALUE` as name → text of an NDL expression."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name, value = name.strip(), value.strip()
        if not (equals and value and all(part.strip() for part in name.split("."))):
            raise click.UsageError(
                f"--set wants NAME.SETTING=VALUE, such as sweep.method.rtol=1e-9; got `{pair}`"
            )
        found[name] = value
    return found


def load(path: Path, **options: Any) -> Program:
    """Load a program and show its warnings; its errors are raised."""
    from ndl.console import show
    from ndl.session import Program

    program = Program.load(path, **options)
    raise_errors(program.diagnostics)
    show(program.diagnostics)
    return program
