"""The Python API behind `import ndl`: load a program, solve and train its models.

Settings are Python values, or text in the words of the language: `span=(0, 5)` or `span="0..5"`,
`method="tsit5(rtol=1e-8)"`, `save=0.1` or `save="every 0.1"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndl.compiler.source import Source
from ndl.runtime.opaque import opaque

if TYPE_CHECKING:
    from ndl.runtime.history import TrainResult
    from ndl.runtime.model import Model
    from ndl.runtime.solution import Solution
    from ndl.session import Program
    from ndl.unplaced import FieldModel

PathName = str | PathLike[str]


def load(
    path: PathName,
    *,
    import_paths: Sequence[PathName] = (),
    bind: Mapping[str, Any] | None = None,
    allow_paths: Sequence[PathName] = (),
    overrides: Mapping[str, Any] | None = None,
    grid: str | None = None,
) -> Program:
    """Read and check a file.

    bind         PyTorch modules for the file's `extern` nets, by name
    import_paths folders where `use` looks besides the standard library
    allow_paths  files and folders outside the program's own that it may read and write
    overrides    settings by dotted name, `{"sweep.method.rtol": 1e-9}`
    grid         where fields of its models are stored, `"uniform(65)"`; without it `ndl.solve` is told

    Raises `NDLError`, which carries all diagnostics.
    """
    return _load(Path(path), import_paths, bind, allow_paths, overrides, grid)


def loads(
    text: str,
    *,
    name: str = "<text>",
    import_paths: Sequence[PathName] = (),
    bind: Mapping[str, Any] | None = None,
    allow_paths: Sequence[PathName] = (),
    overrides: Mapping[str, Any] | None = None,
    grid: str | None = None,
) -> Program:
    """Read and check a text; `name` stands for its file in messages, relative paths start at the
    current folder. The rest is as for `load`."""
    return _load(Source(name, text), import_paths, bind, allow_paths, overrides, grid)


def _load(
    source: Path | Source,
    import_paths: Sequence[PathName],
    bind: Mapping[str, Any] | None,
    allow_paths: Sequence[PathName],
    overrides: Mapping[str, Any] | None,
    grid: str | None,
) -> Program:
    from ndl.session import Program

    return Program.load(
        source,
        import_paths=tuple(Path(p) for p in import_paths),
        bind=dict(bind or {}),
        allow_paths=tuple(Path(p) for p in allow_paths),
        overrides={name: setting_text(name.split(".")[1:], v) for name, v in (overrides or {}).items()},
        grid=grid,
    )


@opaque
def solve(
    model: Model | type[Model] | FieldModel,
    *,
    span: Any = None,
    method: str | None = None,
    save: Any = None,
    **settings: Any,
) -> Solution:
    """Solve a model of a loaded program, as a `solve` block does.

    span    (start, end); method  a solver with its options; the facts of the model choose one if none
    is named; save  a step, times, "steps" or "end". Further settings are those of the language:
    `ensemble`, `seed`, `noise_step`, `gradient`, `precision`, `device`, `max_steps`; `grid` for a model
    of fields.

    Gradients flow to the model's parameters with `gradient="discrete"` (or another mode). Raises
    `NDLError` when a setting does not fit or the run cannot go on.
    """
    from ndl.session import solve_model
    from ndl.unplaced import FieldModel

    given = {"span": span, "method": method, "save": save, **settings}
    texts = {name: setting_text([name], value) for name, value in given.items() if value is not None}
    if isinstance(model, FieldModel):
        model = model.on(texts.pop("grid", None))
    found: Solution = solve_model(model() if isinstance(model, type) else model, texts)
    return found


def train(
    target: Program | type[Model],
    name: str | None = None,
    *,
    progress: bool = True,
    resume: bool = False,
    out: PathName | None = None,
    **settings: Any,
) -> TrainResult:
    """Run a `train` block: the one of a model's class, or of a program (by name if it has several).

    `out` is a folder for results and checkpoints; settings replace those of the block.
    Raises `NDLError`.
    """
    from ndl.runfolder import RunFolder
    from ndl.session import train_block

    program, block = train_block(target, name)
    folder = None if out is None else RunFolder(Path(out), block.name, fixed=True)
    overrides = {f"{block.name}.{k}": setting_text([k], v) for k, v in settings.items()}
    (result,) = program.run(block.name, out=folder, progress=progress, resume=resume, overrides=overrides)
    found: TrainResult = result
    return found


def setting_text(path: Sequence[str], value: Any) -> str:
    """A Python value as the text of a setting: `(0, 5)` is a span `0..5`, a number to `save` a period."""
    name = path[-1] if len(path) == 1 else ""
    if isinstance(value, str):
        return value
    if name == "span" and isinstance(value, (tuple, list)) and len(value) == 2:
        return f"{number_text(value[0])}..{number_text(value[1])}"
    if name == "save" and isinstance(value, (int, float)):
        return f"every {number_text(value)}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list) and {type(v) for v in value} <= {int, float}:
        return repr(value)  # as NDL writes them, at once: there may be thousands
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(setting_text([], v) for v in value)}]"
    if isinstance(value, (int, float)):
        return number_text(value)
    return str(value).removeprefix("torch.")


def number_text(value: Any) -> str:
    """A number as NDL writes it, exactly; `inf` and `nan` are constants of the language."""
    return repr(value) if isinstance(value, int) else repr(float(value))
