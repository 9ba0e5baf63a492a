"""Checkpoints: tensors as safetensors, everything else as JSON; loading one runs no code of the file.

A folder of checkpoints looks like this, and `latest.json` always names a complete one:

    latest.json               {"checkpoint": "step-00000120"}
    step-00000120/
        state.json            step, settings, versions, optimiser scalars
        tensors.safetensors   parameters, memory, optimiser tensors, histories, random state
        best.safetensors      the best parameters so far, when there is validation
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ndl.runtime.atomic import new_folder, write_json
from ndl.runtime.errors import CheckpointError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 2
COMPLEX = "|complex"


@dataclass
class Checkpoint:
    """A state of training: `data` is JSON values, tensors are by name."""

    data: dict[str, Any]
    tensors: dict[str, Tensor]
    best: dict[str, Tensor] = field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True)
class CheckpointStore:
    """A folder of checkpoints, of which the `keep` (at least 2) newest stay."""

    folder: Path
    keep: int = 2

    def save(self, step: int, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, make it the latest, then drop old ones. A kill leaves the one before."""
        target = self.folder / f"step-{step:08d}"
        if not target.exists():
            with new_folder(target) as place:
                save_file(_savable(checkpoint.tensors), place / "tensors.safetensors")
                if checkpoint.best:
                    save_file(_savable(checkpoint.best), place / "best.safetensors")
                text = json.dumps({"format": FORMAT, **checkpoint.data}, indent=1, allow_nan=False)
                (place / "state.json").write_text(text + "\n", encoding="utf-8")
        write_json(self.folder / "latest.json", {"checkpoint": target.name})
        for old in sorted(self.folder.glob("step-*"))[: -max(2, self.keep)]:
            if old.name < target.name:
                shutil.rmtree(old, ignore_errors=True)
        return target

    def back_to(self, step: int) -> Path | None:
        """Make the newest checkpoint of at most `step` steps the latest; later ones are set aside
        as `unsound-…`."""
        kept = None
        for place in sorted(self.folder.glob("step-*")):
            if int(place.name.removeprefix("step-")) <= step:
                kept = place
        if kept is None:
            (self.folder / "latest.json").unlink(missing_ok=True)
        else:
            write_json(self.folder / "latest.json", {"checkpoint": kept.name})
        for place in sorted(self.folder.glob("step-*")):
            if kept is None or place.name > kept.name:
                aside = self.folder / place.name.replace("step-", "unsound-")
                shutil.rmtree(aside, ignore_errors=True)
                place.rename(aside)
        return kept

    @property
    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        return latest(self.folder)

    def fresh(self) -> None:
        """Refuse a folder that holds checkpoints already: nothing is overwritten."""
        if self.latest is not None:
            raise CheckpointError(
                f"`{self.folder}` holds the checkpoints of an earlier run",
                help="go on with `--resume`, or name another folder",
            )


def latest(folder: Path) -> Path | None:
    """The checkpoint that a folder's `latest.json` names, if it is there."""
    try:
        name = json.loads((folder / "latest.json").read_text(encoding="utf-8"))["checkpoint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found = folder / str(name)
    return found if Path(str(name)).name == name and (found / "state.json").is_file() else None


def load(path: str | os.PathLike[str], device: str = "cpu") -> Checkpoint:
    """Read a checkpoint, or the latest of a folder (also of a run's folder with `checkpoints/`)."""
    given = Path(path)
    place = given if (given / "state.json").is_file() else latest(given) or latest(given / "checkpoints")
    if place is None:
        raise CheckpointError(f"there is no checkpoint in `{given}`")
    try:
        data = json.loads((place / "state.json").read_text(encoding="utf-8"))
        tensors = _loaded(place / "tensors.safetensors", device)
        kept = place / "best.safetensors"
        best = _loaded(kept, device) if kept.is_file() else {}
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint `{place}` is damaged: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise CheckpointError(f"the checkpoint `{place}` has format {found}; this version reads {FORMAT}")
    return Checkpoint(data, tensors, best, place)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file; complex tensors as pairs of reals."""
    save_file(_savable(tensors), path)


def read_tensors(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The inverse of `write_tensors`."""
    try:
        return _loaded(path, device)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"`{path}` cannot be read as safetensors: {error}") from error


def pack(value: Any, tensors: dict[str, Tensor], prefix: str) -> Any:
    """Nested values as JSON; tensors go to `tensors` under names that start with `prefix`."""
    if isinstance(value, Tensor):
        name = f"{prefix}#{len(tensors)}"
        tensors[name] = value
        return {"$tensor": name}
    if isinstance(value, Mapping):
        return {"$map": [[pack(k, tensors, prefix), pack(v, tensors, prefix)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"$tuple": [pack(v, tensors, prefix) for v in value]}
    if isinstance(value, list):
        return [pack(v, tensors, prefix) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(f"a {type(value).__name__} cannot be stored in a checkpoint", code="NDL900")


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `pack`."""
    if isinstance(value, list):
        return [unpack(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    try:
        ((kind, inner),) = value.items()
        if kind == "$tensor":
            return tensors[inner]
        if kind == "$map":
            return {unpack(k, tensors): unpack(v, tensors) for k, v in inner}
        if kind == "$tuple":
            return tuple(unpack(v, tensors) for v in inner)
        if kind == "$float" and inner in ("inf", "-inf", "nan"):
            return float(inner)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"a checkpoint's state is damaged: {error!r}") from error
    raise CheckpointError(f"a checkpoint's state is damaged at `{kind}`")


def versions() -> dict[str, str]:
    """Versions of what computed a result."""
    import platform
    from importlib import metadata

    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("ndl-lang", "numpy", "safetensors"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _savable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Own contiguous copies on the CPU, for safetensors refuses shared memory; complex as pairs of reals."""
    found = {}
    for name, t in tensors.items():
        own = t.detach().to("cpu", copy=True).contiguous()
        if own.is_complex():
            found[name + COMPLEX] = torch.view_as_real(own).clone()
        else:
            found[name] = own
    return found


def _loaded(path: Path, device: str) -> dict[str, Tensor]:
    """The inverse of `_savable`."""
    found = {}
    for name, t in load_file(path, device=device).items():
        pair = name.endswith(COMPLEX)
        found[name.removesuffix(COMPLEX)] = torch.view_as_complex(t) if pair else t
    return found
