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
@click.option(
    "--target",
    type=click.Choice(["torch", "cpu", "triton"]),
    default="torch",
    help="Embed the kernels of the solves: machine-independent LLVM IR, or Triton.",
)
@click.option("--method", "methods", multiple=True, metavar="METHOD", help="Kernels of this method.")
@click.option("--model", "name", metavar="NAME", help="Kernels of this model alone.")
@click.option(
    "--precision", type=click.Choice(["float64", "float32"]), default="float64", help="That of the kernels."
)
@click.option("--gradient", is_flag=True, help="Embed the derivatives' kernels too.")
@_shared.grid
@_shared.import_path
def command(
    file: Path,
    output: Path | None,
    target: str,
    methods: tuple[str, ...],
    name: str | None,
    precision: str,
    gradient: bool,
    grid: str | None,
    import_paths: tuple[Path, ...],
) -> None:
    """Compile FILE to a Python module that imports only torch and ndl.runtime.

    With `--target cpu` or `--target triton` the module holds the kernels of its models' solves and a
    function that runs a batch.
    """
    program = _shared.load(file, import_paths=import_paths, grid=grid)
    if target == "torch":
        if methods or name or gradient or precision != "float64":
            raise click.UsageError(
                "--method, --model, --precision and --gradient go with --target cpu|triton"
            )
        text = program.python_source()
    else:
        from ndl.host.embed import Options, kernel_source

        if name is not None and name not in program.models:
            raise click.UsageError(f"{file} has no model called `{name}`")
        text = kernel_source(program, Options(target, methods, name, precision, gradient))
    if output is None:
        sys.stdout.write(text)
        return
    output.write_text(text, encoding="utf-8")
    console.say(f"wrote {output}", err=True)
