"""Data sets on disk, read portion by portion when samples are asked for.

A `StoredTable` stands where a `Table` with samples does; `take` reads the portions that hold its samples, the
rest stays on disk. A few portions are kept. Every portion is compared with the checksum in the set's record.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ndl.runtime.data import Table
from ndl.runtime.errors import DataError, did_you_mean
from ndl.runtime.portions import MEMBER, RECORD, checksum, read_record
from torch import Tensor

KEPT = 256 * 2**20
"""Bytes of portions that are kept, at least two portions of each array."""
TIME = "time"


@dataclass
class Stored:
    """An open set: arrays by name with named axes, `member` the first of those that have samples."""

    path: Path
    name: str
    arrays: Mapping[str, Any]
    dims: Mapping[str, tuple[str, ...]]
    members: int
    portion: int
    sums: Mapping[str, Mapping[str, int]]
    reads: list[tuple[str, int]] = field(default_factory=list)
    """(array, portion) of every read of the disk, in order."""
    _kept: OrderedDict[tuple[str, int], np.ndarray] = field(default_factory=OrderedDict)

    @property
    def time(self) -> Tensor | None:
        if TIME not in self.arrays:
            return None
        return torch.from_numpy(np.asarray(self.arrays[TIME][...], dtype=np.float64))

    def names(self) -> list[str]:
        """The arrays that have samples."""
        return [n for n, d in self.dims.items() if d[:1] == (MEMBER,) and n != MEMBER]

    def part(self, name: str, k: int) -> np.ndarray:
        """Portion k of an array, `[members of it, …]`. Raises `DataError` for one that is not as written."""
        key = name, k
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        first = k * self.portion
        last = min(first + self.portion, self.members)
        self.reads.append(key)
        try:
            values = np.asarray(self.arrays[name][first:last])
        except Exception as error:  # what a damaged chunk raises depends on its codec
            raise self._damaged(name, k, str(error)) from error
        wanted = self.sums.get(str(k), {}).get(name)
        if wanted is not None and checksum(values) != wanted:
            raise self._damaged(name, k, "its checksum is another one")
        self._keep(key, values)
        return values

    def _keep(self, key: tuple[str, int], values: np.ndarray) -> None:
        self._kept[key] = values
        least = 2 * len({n for n, _ in self._kept})
        while len(self._kept) > least and sum(v.nbytes for v in self._kept.values()) > KEPT:
            self._kept.popitem(last=False)

    def _damaged(self, name: str, k: int, why: str) -> DataError:
        first = k * self.portion
        last = min(first + self.portion, self.members) - 1
        place = f"portion {k} of `{name}` in `{self.name}` (members {first} to {last})"
        return DataError(
            f"{place} is missing or damaged: {why}",
            code="NDL616",
            help="run the `solve` that writes it again: it makes what is damaged anew"
            if self.path.suffix == ".zarr"
            else "delete the file, and run the `solve` that writes it again",
        )

    def rows(self, name: str, index: Tensor, at: int | slice | None) -> np.ndarray:
        """The samples at `index` of an array, at a time or within times (None: an array without)."""
        wanted = index.detach().cpu().numpy().astype(np.int64)
        out: np.ndarray | None = None
        for k in np.unique(wanted // self.portion):
            here = np.nonzero(wanted // self.portion == k)[0]
            values = self.part(name, int(k))[wanted[here] - k * self.portion]
            values = values if at is None else values[:, at]
            if out is None:
                out = np.empty((len(wanted), *values.shape[1:]), values.dtype)
            out[here] = values
        if out is None:
            return np.empty((0, *self.part(name, 0).shape[1:]))
        return out


def open_stored(path: Path, name: str) -> Stored:
    """Open a `.zarr`, `.h5` or `.nc` set for reading. Raises `DataError`."""
    from ndl.runtime.export import wanted

    if not path.exists():
        half = path.parent / f"{path.name}.portions"
        if half.is_dir():
            raise _unfinished(name, read_record(half / RECORD, name))
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*")])
        raise DataError(f"there is no data set `{name}`", help=near, notes=(f"looked for {path.absolute()}",))
    suffix = path.suffix.lower()
    if suffix == ".zarr":
        wanted("zarr")
        return _open_zarr(path, name)
    if suffix in (".h5", ".nc"):
        wanted("h5py")
        return _open_file(path, name)
    raise DataError(f"`{name}` is no data set that NDL reads", help="its name ends in .zarr, .h5 or .nc")


def _open_zarr(path: Path, name: str) -> Stored:
    import zarr

    record = read_record(path / RECORD, name) if (path / RECORD).is_file() else None
    if record is not None:
        _whole(name, record)
    try:
        group: Any = zarr.open_group(str(path), mode="r")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the record is no array
            arrays: dict[str, Any] = dict(group.arrays())
    except Exception as error:
        raise DataError(f"`{name}` is no Zarr folder: {error}", code="NDL616") from error
    dims = {n: tuple(a.attrs.get("_ARRAY_DIMENSIONS", ())) for n, a in arrays.items()}
    return _stored(path, name, arrays, dims, record, {n: a.chunks for n, a in arrays.items()})


def _open_file(path: Path, name: str) -> Stored:
    import h5py

    try:
        file = h5py.File(path, "r")
        text = file.attrs.get(RECORD)
        arrays = {n: a for n, a in file.items() if isinstance(a, h5py.Dataset)}
        dims = {n: _scales(n, a) for n, a in arrays.items()}
    except OSError as error:
        raise DataError(f"`{name}` is no HDF5 file, or damaged: {error}", code="NDL616") from error
    record = None if text is None else json.loads(text)
    return _stored(path, name, arrays, dims, record, {n: a.chunks for n, a in arrays.items()})


def _scales(name: str, array: Any) -> tuple[str, ...]:
    """The names of the axes of an HDF5 array, by their scales; a coordinate's own is its name."""
    found = [next((s.name.lstrip("/") for s in d.values()), "") for d in array.dims]
    return (name,) if array.is_scale else tuple(found)


def _stored(
    path: Path,
    name: str,
    arrays: Mapping[str, Any],
    dims: Mapping[str, tuple[str, ...]],
    record: Mapping[str, Any] | None,
    chunks: Mapping[str, tuple[int, ...] | None],
) -> Stored:
    own = [n for n, d in dims.items() if d[:1] == (MEMBER,) and n != MEMBER]
    if not own:
        raise DataError(
            f"`{name}` has no axis `{MEMBER}` of samples",
            code="NDL613",
            help="write it by a `solve` with an `ensemble`",
        )
    members = int(arrays[own[0]].shape[0])
    given = [c[0] for n in own if (c := chunks[n])]
    portion = int(record["portion"]) if record is not None else max(given, default=min(members, 64))
    return Stored(path, name, arrays, dims, members, portion, {} if record is None else record["done"])


def _whole(name: str, record: Mapping[str, Any]) -> None:
    if len(record["done"]) * record["portion"] < record["members"]:
        raise _unfinished(name, record)


def _unfinished(name: str, record: Mapping[str, Any]) -> DataError:
    count = -(-record["members"] // record["portion"])
    return DataError(
        f"`{name}` has {len(record['done'])} of its {count} portions",
        code="NDL616",
        help="run the `solve` that writes it again: it goes on where it stopped",
    )


# ---------------------------------------------------------------- as a table


@dataclass(frozen=True)
class Column:
    """A column of a stored table: the array, and which of its times (None: it has none)."""

    array: str
    at: int | slice | None


class LazyColumns(Mapping[str, Tensor]):
    """Columns by name; one that is asked for as a whole is read as a whole."""

    def __init__(self, source: Stored, specs: Mapping[str, Column], dtype: torch.dtype, device: Any) -> None:
        self.source, self.specs, self.dtype, self.device = source, dict(specs), dtype, device

    def __getitem__(self, name: str) -> Tensor:
        return self.rows(name, torch.arange(self.source.members))

    def __contains__(self, name: object) -> bool:
        return name in self.specs

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def rows(self, name: str, index: Tensor) -> Tensor:
        spec = self.specs[name]
        values = torch.from_numpy(self.source.rows(spec.array, index, spec.at))
        dtype = self.dtype
        if values.is_complex():
            dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        return values.to(self.device, dtype)


@dataclass(frozen=True)
class StoredTable(Table):
    """A table whose samples stay on disk until they are taken."""

    lazy: ClassVar[bool] = True

    @property
    def _own(self) -> LazyColumns:
        assert isinstance(self.columns, LazyColumns)
        return self.columns

    @property
    def rows(self) -> int:
        return self._own.source.members if self.time is None else int(self.time.shape[0])

    @property
    def samples(self) -> int:
        return self._own.source.members

    @property
    def portion(self) -> int:
        return self._own.source.portion

    def take(self, index: Tensor) -> Table:
        chosen = {n: self._own.rows(n, index) for n in self.columns}
        return Table(chosen, self.time, self.panel, self.source, self.units)

    def shape(self, name: str) -> torch.Size:
        return torch.Size((self.samples, *self.take(torch.zeros(1, dtype=torch.int64))[name].shape[1:]))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> StoredTable:
        own = self._own
        moved = LazyColumns(own.source, own.specs, dtype or own.dtype, device or own.device)
        time = None if self.time is None else self.time.to(device=device)
        return replace(self, columns=moved, time=time)

    def standard(self, scales: Mapping[str, tuple[Tensor, Tensor]]) -> Table:
        if scales:
            raise DataError("a data set on disk is not brought to other scales", code="NDL613",
                            help="scale its columns in the loss")  # fmt: skip
        return self


def store(path: Path, name: str, **columns: str) -> StoredTable:
    """A data set's arrays as columns: `u="u"`, `a="u(0)"` for one saved time. Raises `DataError`."""
    source = open_stored(path, name)
    wanted = columns or {n: n for n in source.names() if n not in ("t", "valid")}
    specs = {c: _column(source, origin, name) for c, origin in wanted.items()}
    panel = any(isinstance(s.at, slice) for s in specs.values())
    lazily = LazyColumns(source, specs, torch.float64, torch.device("cpu"))
    return StoredTable(lazily, source.time if panel else None, panel, name)


def _column(source: Stored, origin: str, name: str) -> Column:
    called = re.fullmatch(r"(.+?)\(\s*([-+.\deE]+)\s*\)", origin)
    array = origin if called is None or origin in source.dims else called[1]
    if array not in source.names():
        raise DataError(
            f"`{name}` has no array `{array}` with samples",
            code="NDL611",
            help=did_you_mean(array, source.names()) or f"it has {', '.join(source.names())}",
        )
    timed = source.dims[array][1:2] == (TIME,)
    times = source.time
    if not timed or times is None:
        if called is not None and array != origin:
            raise DataError(
                f"`{array}` of `{name}` has no times of which `{origin}` could be one", code="NDL613"
            )
        return Column(array, None)
    if called is None or array == origin:
        return Column(array, slice(None))
    t = float(called[2])
    k = int((times - t).abs().argmin())
    if abs(float(times[k]) - t) > 1e-9 * max(1.0, abs(t)):
        raise DataError(
            f"`{name}` was not saved at t = {t:g}; the nearest time is {float(times[k]):g}", code="NDL613",
            help="save at that time, or name another one",
        )  # fmt: skip
    return Column(array, k)
