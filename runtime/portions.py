"""Data sets written in portions of their members: each portion is recorded when it is whole, so that a run
that was killed goes on with those that are missing, and memory does not grow with the ensemble.

A `.zarr` set is a Zarr folder with a chunk for each portion, readable while it grows. Portions of `.h5` and
`.nc` stand as files in a folder beside the set until all are there; then they are joined, one at a time.
"""

from __future__ import annotations

import json
import math
import shutil
import warnings
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ndl.runtime.atomic import replacing, write_json
from ndl.runtime.errors import DataError

RECORD = "ndl-portions.json"
"""The record of a set: what it is of, how it is cut, a checksum for each array of each portion."""
MEMBER = "member"
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Layout:
    """What a set has beside its members' values.

    dims        names of the axes of each array, `member` the first where the array has members
    common      arrays without members, coordinates among them
    attributes  what the set says of itself
    """

    dims: Mapping[str, tuple[str, ...]]
    common: Arrays
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class DataSet:
    """A set that is whole: where it is, its portions, and how many of them this run has made."""

    path: Path
    members: int
    portion: int
    portions: int
    made: int

    def row(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path)}


def checksum(values: np.ndarray) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).reshape(-1).data)


class Writer(ABC):
    """Writes a set of `members` in portions of `portion`; see `writer`.

    `fingerprint` says, by name, what the set is of; one that is there already must agree. Raises `DataError`.
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, str], members: int, portion: int | None) -> None:
        self.path, self.fingerprint, self.members = path, dict(fingerprint), members
        self.found = self._record()
        if self.found is None and self._occupied():
            raise DataError(
                f"`{path.name}` is there, and is no data set that was written in portions",
                code="NDL617",
                help="write to another name, or delete it",
            )
        if self.found is not None:
            self._compare(self.found, portion)
        size = portion if self.found is None else int(self.found["portion"])
        self.portion = min(size or members, members)
        self.done: dict[int, dict[str, int]] = {}
        if self.found is not None:
            self.done = {int(k): v for k, v in self.found["done"].items()}

    @property
    def count(self) -> int:
        """How many portions the set has."""
        return math.ceil(self.members / self.portion)

    def places(self, k: int) -> tuple[int, int]:
        """The first member of portion k, and how many it has."""
        first = k * self.portion
        return first, min(self.portion, self.members - first)

    def missing(self) -> list[int]:
        """The portions that are not recorded, or not as they were written."""
        for k in [k for k, sums in self.done.items() if not self.sound(k, sums)]:
            del self.done[k]
        return [k for k in range(self.count) if k not in self.done]

    def write(self, k: int, arrays: Arrays, layout: Layout) -> None:
        """Write portion k, then record it."""
        self.store(k, arrays, layout)
        self.done[k] = {name: checksum(values) for name, values in arrays.items()}
        self._save()

    def record(self) -> dict[str, Any]:
        done = {str(k): self.done[k] for k in sorted(self.done)}
        return {
            "format": 1,
            "fingerprint": self.fingerprint,
            "members": self.members,
            "portion": self.portion,
            "done": done,
        }

    def _compare(self, found: Mapping[str, Any], portion: int | None) -> None:
        own = {**self.fingerprint, "ensemble": str(self.members)}
        other = {**found["fingerprint"], "ensemble": str(found["members"])}
        if portion is not None:
            own["portion"], other["portion"] = str(portion), str(found["portion"])
        differing = [k for k in own.keys() | other.keys() if own.get(k) != other.get(k)]
        if not differing:
            return
        shown = [
            f"`{k}` is {_short(other.get(k))} there, {_short(own.get(k))} here" for k in sorted(differing)
        ]
        raise DataError(
            f"`{self.path.name}` holds another data set: {'; '.join(shown[:3])}",
            code="NDL617",
            help=f"write to another name, or delete `{self.path.name}`",
        )

    def _record(self) -> dict[str, Any] | None:
        place = self.place()
        if not place.is_file():
            return None
        return read_record(place, self.path.name)

    def _save(self) -> None:
        write_json(self.place(), self.record())

    def _occupied(self) -> bool:
        return self.path.exists()

    @abstractmethod
    def place(self) -> Path:
        """Where the record stands."""

    @abstractmethod
    def store(self, k: int, arrays: Arrays, layout: Layout) -> None: ...

    @abstractmethod
    def sound(self, k: int, sums: Mapping[str, int]) -> bool:
        """Whether portion k is what was written."""

    @abstractmethod
    def finish(self) -> None:
        """What is left to do when all portions are there."""


def read_record(place: Path, name: str) -> dict[str, Any]:
    """A record from its file. Raises `DataError` for one that is damaged."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        if found["format"] != 1:
            raise ValueError("its format is of another version")
        found["fingerprint"], found["members"], found["portion"], found["done"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the record of portions of `{name}` is damaged ({error})", code="NDL616", help=f"delete `{name}`"
        ) from error
    return dict(found)


def _short(text: str | None) -> str:
    return "nothing" if text is None else f"`{text if len(text) <= 48 else text[:45] + '…'}`"


def writer(path: Path, fingerprint: Mapping[str, str], members: int, portion: int | None) -> Writer:
    """The writer of a set, by its suffix; `portion` None takes that of a set that is there."""
    from ndl.runtime.export import wanted

    if path.suffix.lower() == ".zarr":
        wanted("zarr")
        return ZarrWriter(path, fingerprint, members, portion)
    wanted("h5netcdf")
    return FileWriter(path, fingerprint, members, portion)


class ZarrWriter(Writer):
    """A Zarr folder (format 2, as xarray reads it), a chunk for each portion of each array."""

    def place(self) -> Path:
        return self.path / RECORD

    def _occupied(self) -> bool:
        return self.path.exists() and any(self.path.iterdir())

    def store(self, k: int, arrays: Arrays, layout: Layout) -> None:
        group = self._group(arrays, layout)
        first, count = self.places(k)
        for name, values in arrays.items():
            group[name][first : first + count] = values

    def _group(self, arrays: Arrays, layout: Layout) -> Any:
        import zarr

        if self.done and all((self.path / name / ".zarray").is_file() for name in arrays):
            return zarr.open_group(str(self.path), mode="r+", zarr_format=2)
        # the record comes first: what is killed here is known as ours
        self.path.mkdir(parents=True, exist_ok=True)
        self.done = {}
        self._save()
        group = zarr.open_group(str(self.path), mode="a", zarr_format=2)
        group.attrs.update(dict(layout.attributes))
        for name, values in {**layout.common, MEMBER: np.arange(self.members)}.items():
            own = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=values.shape or "auto",
                fill_value=None,
                overwrite=True,
            )
            own.attrs["_ARRAY_DIMENSIONS"] = list(layout.dims.get(name, (name,)))
            own[...] = values
        for name, values in arrays.items():
            rest = values.shape[1:]
            own = group.create_array(
                name,
                shape=(self.members, *rest),
                chunks=(self.portion, *rest),
                dtype=values.dtype,
                fill_value=math.nan if values.dtype.kind in "fc" else 0,
                overwrite=True,
            )
            own.attrs["_ARRAY_DIMENSIONS"] = list(layout.dims[name])
        return group

    def sound(self, k: int, sums: Mapping[str, int]) -> bool:
        import zarr

        first, count = self.places(k)
        try:
            group: Any = zarr.open_group(str(self.path), mode="r")
            return all(checksum(group[n][first : first + count]) == crc for n, crc in sums.items())
        except (KeyError, OSError, ValueError, RuntimeError):
            return False

    def finish(self) -> None:
        """All metadata in one place, which readers look for."""
        import zarr

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the record is no array
            zarr.consolidate_metadata(str(self.path), zarr_format=2)


class FileWriter(Writer):
    """Files of portions in a folder beside the set, joined to one NetCDF-4 (HDF5) file at the end."""

    @property
    def folder(self) -> Path:
        return self.path.parent / f"{self.path.name}.portions"

    def place(self) -> Path:
        return self.folder / RECORD

    def _record(self) -> dict[str, Any] | None:
        return record_of_file(self.path) if self.path.exists() else super()._record()

    def store(self, k: int, arrays: Arrays, layout: Layout) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.done:
            dims = json.dumps({n: list(d) for n, d in layout.dims.items()})
            about = json.dumps({k: str(v) for k, v in layout.attributes.items()})
            _save_arrays(self.folder / "layout.npz", {**layout.common, "*dims": dims, "*about": about})
        _save_arrays(self._file(k), arrays)

    def _file(self, k: int) -> Path:
        return self.folder / f"portion-{k:06d}.npz"

    def sound(self, k: int, sums: Mapping[str, int]) -> bool:
        if self.path.exists():
            return True  # it was joined from sound portions; readers look again
        try:
            arrays = _load_arrays(self._file(k))
            return all(checksum(arrays[n]) == crc for n, crc in sums.items())
        except (KeyError, OSError, ValueError, zipfile.BadZipFile, zlib.error):
            return False

    def finish(self) -> None:
        """Join the portions; the file takes its name when it is whole."""
        import h5netcdf

        if not self.path.exists():
            common = _load_arrays(self.folder / "layout.npz")
            dims = {n: tuple(d) for n, d in json.loads(str(common.pop("*dims"))).items()}
            about = json.loads(str(common.pop("*about")))
            about[RECORD] = json.dumps(self.record())
            first = _load_arrays(self._file(0)) | common
            pairs = any(np.iscomplexobj(v) for v in first.values())  # which NetCDF has no name for
            with (
                replacing(self.path) as temporary,
                h5netcdf.File(temporary, "w", invalid_netcdf=pairs) as file,
            ):
                file.attrs.update(about)
                for name, values in {**common, MEMBER: np.arange(self.members)}.items():
                    _variable(file, name, dims.get(name, (name,)), values.shape, values.dtype)[...] = values
                for k in range(self.count):
                    self._join(file, k, dims)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _join(self, file: Any, k: int, dims: Mapping[str, tuple[str, ...]]) -> None:
        first, count = self.places(k)
        for name, values in _load_arrays(self._file(k)).items():
            if name not in file.variables:
                shape = (self.members, *values.shape[1:])
                chunk = (self.portion, *values.shape[1:])
                _variable(file, name, dims[name], shape, values.dtype, chunk)
            file.variables[name][first : first + count] = values


def _variable(
    file: Any,
    name: str,
    dims: Sequence[str],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: tuple[int, ...] | None = None,
) -> Any:
    for d, n in zip(dims, shape):
        if d not in file.dimensions:
            file.dimensions[d] = n
    return file.create_variable(name, tuple(dims), dtype, chunks=chunks)


def record_of_file(path: Path) -> dict[str, Any] | None:
    """The record in a joined file; None where the file is another. Raises `DataError` for a damaged one."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get(RECORD)
    except OSError as error:
        raise DataError(
            f"`{path.name}` cannot be read: {error}",
            code="NDL616",
            help=f"delete `{path.name}` and run again",
        ) from error
    return None if text is None else dict(json.loads(text))


def _save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(b"")
        with temporary.open("wb") as file:
            named: dict[str, Any] = {n: np.asarray(v) for n, v in arrays.items()}
            np.savez(file, **named)


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {n: archive[n] for n in archive.files}
