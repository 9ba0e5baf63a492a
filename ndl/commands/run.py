"""`ndl run`: the solve and train blocks of a file, with results in `runs/<name>/<time>/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ndl import console
from ndl.commands import _shared
from ndl.runfolder import RunFolder, latest


@click.command("run")
@click.argument("file", type=_shared.FILE)
@click.argument("names", nargs=-1)
@click.option(
    "--set", "sets", multiple=True, metavar="NAME.SETTING=VALUE", help="Override a setting; many times."
)
@click.option("--seed", type=int, help="The seed of every run.")
@click.option("--device", metavar="cpu|cuda|auto", help="The device of every run.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The folder for results.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the newest run.")
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, no summary.")
@_shared.import_path
@_shared.allow_path
def command(
    file: Path,
    names: tuple[str, ...],
    sets: tuple[str, ...],
    seed: int | None,
    device: str | None,
    out: Path | None,
    resume: bool,
    as_json: bool,
    quiet: bool,
    import_paths: tuple[Path, ...],
    allow_paths: tuple[Path, ...],
) -> None:
    """Run the solve and train blocks of FILE, all or those called NAMES."""
    from ndl.report import print_repeats, result_json, summary

    overrides = _shared.settings(sets)
    program = _shared.load(file, import_paths=import_paths, allow_paths=allow_paths, overrides=overrides)
    chosen = _choose(program.runs, names, file)
    done: list[dict[str, Any]] = []
    begun = _begun(chosen) if resume and out is None else {b.name for b in chosen}
    for block in chosen:
        goes_on = resume and block.name in begun
        folder = _folder(out, block.name, goes_on, alone=len(chosen) == 1)
        extra = {"seed": seed, "device": device}
        results = program.run(
            block.name,
            out=folder,
            progress=not (quiet or as_json),
            resume=goes_on,
            overrides={f"{block.name}.{k}": str(v) for k, v in extra.items() if v is not None},
        )
        for result in results:
            where = str(folder.path) if folder.exists else None
            done.append({"name": block.name, "kind": block.kind, "folder": where, **result_json(result)})
            if not (quiet or as_json):
                console.say(summary(block.kind, block.name, result))
                if getattr(result, "repeats", None) is not None:
                    print_repeats(result.repeats)
        if folder.exists and not as_json:
            console.say(f"results are in {folder.path}", err=quiet)
    if as_json:
        console.print_json(done)


def _choose(runs: Any, names: tuple[str, ...], file: Path) -> list[Any]:
    """The blocks called `names`, all when none is named. Raises UsageError for an unknown name."""
    from ndl.compiler.diagnostics import did_you_mean

    known = {block.name: block for block in runs}
    for name in names:
        if name not in known:
            offer = did_you_mean(name, known) or f"it has {', '.join(known) or 'none'}"
            raise click.UsageError(f"{file} has no run called `{name}`; {offer}")
    if not known:
        console.say(f"{file} has no solve or train block: nothing to run", err=True)
    return [known[name] for name in names] if names else list(runs)


def _begun(blocks: Sequence[Any]) -> set[str]:
    """The blocks that have a run already; others begin anew. Raises UsageError where none has."""
    found = {b.name for b in blocks if latest(Path("runs"), b.name) is not None}
    if blocks and not found:
        raise click.UsageError(f"nothing to resume: there is no run of `{blocks[0].name}` in runs")
    return found


def _folder(out: Path | None, name: str, resume: bool, alone: bool) -> RunFolder:
    """`--out` itself for a single run, a folder in it for each of several; else `runs/<name>/<time>`."""
    if out is not None:
        return RunFolder(out if alone else out / name, name, fixed=True)
    base = Path("runs")
    if resume:
        found = latest(base, name)
        assert found is not None  # `_begun` has seen it
        return RunFolder(found, name, fixed=True)
    return RunFolder(base, name)
