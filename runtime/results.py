"""What a run leaves in its folder, `runs/<name>/<time>/`; every file is written whole or not at all.

settings.json      the resolved settings and the versions of what computed
results.json       numbers: loss and fitted values, or statistics and final values
results.csv        the saved values of a solve (or .parquet, .npz)
history.csv        step, loss, terms, learning rate, validation, metrics of a train
runs.csv           the numbers of each of several runs, their mean and deviation
model.safetensors  the weights of the trained model
*.png, *.svg       figures
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ndl.runtime import checkpoints
from ndl.runtime.atomic import replacing, write_json, write_text
from ndl.runtime.errors import DataError
from ndl.runtime.history import History, TrainResult
from ndl.runtime.train_settings import plain
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from ndl.runtime.solution import Solution
    from ndl.runtime.varied import Varied


def new_run(base: str | os.PathLike[str], name: str, now: datetime | None = None) -> Path:
    """Make `<base>/<name>/<time>`, with a number behind the time when another run has just made it."""
    stamp = (now or datetime.now()).strftime("%Y-%m-%d_%H-%M-%S")
    parent = Path(base) / name
    parent.mkdir(parents=True, exist_ok=True)
    for n in range(1, 10_000):
        folder = parent / (stamp if n == 1 else f"{stamp}_{n}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise DataError(f"`{parent}` has thousands of runs of this second")


def write_settings(folder: Path, settings: Mapping[str, Any]) -> Path:
    """Resolved settings (specs and tensors become plain values) and versions."""
    path = folder / "settings.json"
    write_json(path, {"settings": plain(settings), "versions": checkpoints.versions()})
    return path


def write_training(folder: Path, result: TrainResult, fitted: Mapping[str, Any] | None = None) -> list[Path]:
    """History, numbers and weights of a training run; `fitted` are values to list by name."""
    numbers = {
        "loss": numeral(result.loss),
        "steps": result.steps,
        "seconds": result.seconds,
        "best_step": result.best_step,
        "stopped": result.stopped,
        "validation": numeral(result.validation),
        "metrics": {name: numeral(value) for name, value in result.metrics.items()},
        "checkpoint": str(result.checkpoint) if result.checkpoint else None,
        "fitted": {name: numeral(value) for name, value in (fitted or {}).items()},
    }
    write_json(folder / "results.json", numbers)
    write_text(folder / "history.csv", history_csv(result.history))
    written = [folder / "results.json", folder / "history.csv"]
    if result.repeats is not None:
        write_text(folder / "runs.csv", result.repeats.csv())
        written.append(folder / "runs.csv")
    if isinstance(result.model, torch.nn.Module):
        path = folder / "model.safetensors"
        with replacing(path) as temporary:
            checkpoints.write_tensors(temporary, result.model.state_dict())
        written.append(path)
    return written


def write_solution(folder: Path, solution: Solution, name: str = "results.csv") -> list[Path]:
    """Saved values in the format that `name` ends in (of fields, `.npz`), and `results.json` with the ends
    and statistics."""
    stats = {k: numeral(getattr(solution.stats, k)) for k in ("steps", "rejected", "evaluations")}
    if solution.model.GRIDS:
        name = str(Path(name).with_suffix(".npz"))
    final = {k: _end(solution.final[k]) for k in solution.names()}
    write_json(folder / "results.json", {"stats": stats, "t": numeral(solution.final.t), "final": final})
    solution.save(folder / name)
    return [folder / "results.json", folder / name]


MOST = 1000
"""Values beyond which `results.json` tells how large they are, and not each."""


def _end(value: Tensor) -> Any:
    """A value at the end, or the extent, range and mean of a large one."""
    if value.numel() <= MOST:
        return numeral(value)
    spread = {"least": value.min(), "largest": value.max(), "mean": value.double().mean()}
    return {"shape": list(value.shape), **{k: numeral(v) for k, v in spread.items()}}


def write_varied(folder: Path, varied: Varied) -> list[Path]:
    """`results.csv` and `results.json`: the measures of each combination of what was varied."""
    write_text(folder / "results.csv", varied.csv())
    write_json(folder / "results.json", {"trainings": varied.rows()})
    return [folder / "results.csv", folder / "results.json"]


def write_figure(folder: Path, figure: Figure, name: str) -> list[Path]:
    """`<name>.png` and `<name>.svg`."""
    from ndl.runtime import plots

    return plots.save(figure, folder / name)


def history_csv(history: History) -> str:
    """A row for each step; validation and metrics stand in the rows of the steps after which they
    were computed, tables (confusion) in `results.json`."""
    several = len(history.players) > 1
    series: dict[str, list[float]] = {"loss": history.loss.tolist()}
    series |= {f"loss {k}": v.tolist() for k, v in history.players.items() if several}
    series |= {k: v.tolist() for k, v in history.terms.items()}
    series["rate"] = history.rate.tolist()
    looks = {"validation": (history.validation_steps, history.validation)} if len(history.validation) else {}
    looks |= {k: (history.metric_steps, v) for k, v in history.metrics.items() if v.ndim == 1}
    seen = [dict(zip(steps.tolist(), values.tolist())) for steps, values in looks.values()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *series, *looks])
    for k in range(len(history.loss)):
        row = [_cell(values[k]) for values in series.values()]
        writer.writerow([k + 1, *row, *(_cell(values.get(k + 1, math.nan)) for values in seen)])
    return text.getvalue()


def numeral(value: Any) -> Any:
    """A tensor as numbers for strict JSON; what is not finite becomes null."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = torch.view_as_real(value).tolist() if value.is_complex() else value.tolist()
    if isinstance(value, list):
        return [numeral(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_json(path: Path) -> Any:
    """What one of these files holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
