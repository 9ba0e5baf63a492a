"""`ndl show`: a program's syntax tree, equations, graphs or generated code."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ndl import console
from ndl.commands import _shared
from ndl.compiler.syntax import tree

WAYS = ("tree", "equations", "latex", "ir", "svg", "code", "kernel")


@click.command("show")
@click.argument("file", type=_shared.ONE_PROGRAM)
@click.option("--tree", "way", flag_value="tree", help="The syntax tree.")
@click.option(
    "--equations", "way", flag_value="equations", default=True, help="The equations, as text (default)."
)
@click.option("--latex", "way", flag_value="latex", help="The equations, as LaTeX.")
@click.option("--ir", "way", flag_value="ir", help="The graph IR, as text.")
@click.option("--svg", "way", flag_value="svg", help="The graph IR of the rates, as an SVG picture.")
@click.option("--code", "way", flag_value="code", help="The generated Python module.")
@click.option("--kernel", "way", flag_value="kernel", help="The kernel IR of a solve, as text.")
@click.option("--model", "name", help="Only this model.")
@click.option("--method", help="The method of the kernel (by default, the one chosen).")
@_shared.grid
@_shared.import_path
def command(
    file: Path,
    way: str,
    name: str | None,
    method: str | None,
    grid: str | None,
    import_paths: tuple[Path, ...],
) -> None:
    """Show what NDL makes of FILE, or of a module of the standard library: `std.models.diffusion`.

    The equations of fields are followed by what of them is diagonal in Fourier space; in LaTeX an energy
    over a box by its Euler–Lagrange equation and the weak form of it.
    """
    if way in ("tree", "equations", "latex"):
        sys.stdout.write(from_text(file, way, name, import_paths))
        if way == "equations":
            sys.stdout.write(modes_text(file, name, import_paths, grid))
        if way == "latex":
            sys.stdout.write(energies_text(file, name, import_paths))
        return
    program = _shared.load(file, import_paths=import_paths, grid=grid)
    if way == "code":
        sys.stdout.write(program.python_source())
        return
    names = _one_of(list(program.models), name, file)
    if way == "ir":
        console.say("\n\n".join(program.ir_text(n).rstrip() for n in names))
        return
    if way == "kernel":
        console.say("\n".join(program.kernel_text(n, method) for n in names))
        return
    from ndl.svg import graph_svg

    if len(names) != 1:
        raise click.UsageError(
            f"{file} has {len(names)} models; choose one with --model ({', '.join(names)})"
        )
    rates = program.ir(names[0]).drift
    if rates is None:
        raise click.UsageError(f"model `{names[0]}` has no rates to draw")
    sys.stdout.write(graph_svg(rates))


def from_text(file: Path, way: str, name: str | None, import_paths: tuple[Path, ...] = ()) -> str:
    """What needs no more than parsing, but for models that a function made."""
    from ndl.compiler.symbolic.equations import equations_latex, equations_text
    from ndl.treetext import tree_text

    parsed = _shared.parse(file)
    if way == "tree":
        return tree_text(parsed)
    models = {item.name: item for item in parsed.items if isinstance(item, tree.Model)}
    printer = equations_latex if way == "latex" else equations_text
    comment = "%" if way == "latex" else "#"
    made = {item.name: item for item in parsed.items if isinstance(item, tree.ModelAlias)}
    if name in made:  # worked out only when it is asked for: it may need a run
        from ndl.host.written import written_out

        program = _shared.load(file, import_paths=import_paths)
        model = program.host.alias(made[name], program.checked.module.scope)
        return f"{comment} model {name}\n{printer(written_out(program.host.ev, model))}\n"
    chosen = _one_of([*models, *made] if name is not None else list(models), name, file)
    found = [f"{comment} model {n}\n{printer(models[n])}\n" for n in chosen]
    if name is None:
        found += [f"{comment} {i.span.text}; `--model {n}` shows it\n" for n, i in made.items()]
    return "\n".join(found)


def modes_text(file: Path, name: str | None, import_paths: tuple[Path, ...], grid: str | None) -> str:
    """What each model of fields has that is diagonal in Fourier space, as comments."""
    from ndl.compiler.diagnostics import NDLError
    from ndl.unplaced import has_fields

    models = [m for m in _shared.parse(file).items if isinstance(m, tree.Model) and name in (None, m.name)]
    names = [m.name for m in models if has_fields(m)]
    if not names:
        return ""
    try:
        program = _shared.load(file, import_paths=import_paths, grid=grid)
        found = {n: program.modes(n) for n in names}
    except NDLError:  # `ndl check` reports it: equations are shown of files that do not run, too
        return ""
    return "".join(f"\n# {n} in Fourier space: {modes}\n" for n, modes in found.items() if modes is not None)


def energies_text(file: Path, name: str | None, import_paths: tuple[Path, ...]) -> str:
    """The Euler–Lagrange equation of each model with an energy, and its weak form, as LaTeX."""
    from ndl.compiler.diagnostics import NDLError, Sink
    from ndl.compiler.manufactured.forced import euler_lagrange

    models = [m for m in _shared.parse(file).items if isinstance(m, tree.Model) and name in (None, m.name)]
    names = [m.name for m in models if any(isinstance(s, tree.Optimize) for s in m.body)]
    found = ""
    for n in names:
        try:
            program = _shared.load(file, import_paths=import_paths)
            lines = euler_lagrange(program._model_values()[n], Sink())
        except NDLError as error:
            found += f"\n% Euler–Lagrange equation of {n}: {error.diagnostics[0].message}\n"
            continue
        rows = " \\\\\n  ".join(lines)
        body = f"\\begin{{aligned}}\n  {rows}\n\\end{{aligned}}"
        found += f"\n% Euler–Lagrange equation of {n}, and its weak form\n{body}\n"
    return found


def _one_of(known: list[str], name: str | None, file: Path) -> list[str]:
    from ndl.compiler.diagnostics import did_you_mean

    if name is None:
        return known
    if name not in known:
        offer = did_you_mean(name, known) or f"it has {', '.join(known) or 'none'}"
        raise click.UsageError(f"{file} has no model called `{name}`; {offer}")
    return [name]
