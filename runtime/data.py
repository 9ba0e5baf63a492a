"""Tables of measurements from CSV, Parquet and NPZ files.

`table("pelts.csv", time="year", prey="hare")` gives a `Table` whose column `prey` is a float64 tensor
[rows, ...]. A missing value is NaN, and False in the column's mask. Arrays of an NPZ file may have a
leading axis of samples, [samples, times, ...]; the table is then a *panel* (see `series`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch
from ndl.runtime.data_files import READERS, Raw
from ndl.runtime.errors import DataError, did_you_mean
from ndl.runtime.paths import PathPolicy
from ndl.runtime.series import cut, dropped, evenly, merged, scales_of
from torch import Tensor


@dataclass(frozen=True)
class Table:
    """Columns over a common axis.

    time     [times], increasing, or None when the rows are samples
    columns  name -> float64 [rows, ...] or, in a panel, [samples, times, ...]
    scales   name -> mean and deviation of each component by which a column was made standard
    """

    lazy: ClassVar[bool] = False
    """Whether columns stay on disk until samples are taken."""
    columns: Mapping[str, Tensor]
    time: Tensor | None = None
    panel: bool = False
    source: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.columns:
            raise DataError(
                f"the data has no column `{name}`",
                code="NDL611",
                help=did_you_mean(name, self.columns) or f"it has {_listed(self.columns)}",
            )
        return self.columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    @property
    def masks(self) -> dict[str, Tensor]:
        """True where a column has a value."""
        return {name: ~torch.isnan(column) for name, column in self.columns.items()}

    @property
    def rows(self) -> int:
        """Length of the common axis: times, or samples without a time axis."""
        if self.time is not None:
            return int(self.time.shape[0])
        return int(next(iter(self.columns.values())).shape[0]) if self.columns else 0

    @property
    def samples(self) -> int | None:
        """Independent samples to draw mini-batches from; None for one path in time."""
        if self.panel:
            return int(next(iter(self.columns.values())).shape[0])
        return None if self.time is not None else self.rows

    @property
    def portion(self) -> int | None:
        """Samples that are read together, where the data is on disk."""
        return None

    def shape(self, name: str) -> torch.Size:
        """The shape of a column."""
        return self[name].shape

    def take(self, index: Tensor) -> Table:
        """The samples at `index` [batch] of a panel or of a table without time."""
        if self.samples is None:
            raise DataError("a single path in time has no samples to draw a batch from", code="NDL613")
        chosen = {name: column[index] for name, column in self.columns.items()}
        return replace(self, columns=chosen)

    def between(self, low: float, high: float) -> Table:
        """The part of a path or panel whose times lie in a span."""
        if self.time is None:
            raise DataError("data without times has no part in a span", code="NDL613")
        inside = torch.nonzero((self.time >= low) & (self.time <= high)).flatten()
        if len(inside) == 0:
            raise DataError(f"the data has no times in {low:g}..{high:g}", code="NDL613")
        axis, times = int(self.panel), len(self.time)
        chosen = {
            n: c.index_select(axis, inside) if c.ndim > axis and c.shape[axis] == times else c
            for n, c in self.columns.items()
        }
        return replace(self, columns=chosen, time=self.time[inside])

    def standard(self, scales: Mapping[str, tuple[Tensor, Tensor]]) -> Table:
        """The columns on other scales: those of the data that a model was trained on."""
        columns = dict(self.columns)
        for name in {*self.scales, *scales}:
            if name in columns:
                x = columns[name]
                if name in self.scales:
                    mean, deviation = (v.to(x) for v in self.scales[name])
                    x = mean + deviation * x
                if name in scales:
                    mean, deviation = (v.to(x) for v in scales[name])
                    x = (x - mean) / deviation
                columns[name] = x
        return replace(self, columns=columns, scales=dict(scales))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Table:
        """The same table in another precision or on another device; times keep their precision."""
        moved = {name: column.to(device=device, dtype=dtype) for name, column in self.columns.items()}
        time = None if self.time is None else self.time.to(device=device)
        return replace(self, columns=moved, time=time)


def table(
    path: str | os.PathLike[str],
    time: str | tuple[float, float] | float | None = None,
    *,
    length: str | None = None,
    drop: float = 0.0,
    drop_rows: float = 0.0,
    seed: int = 0,
    standard: bool = False,
    policy: PathPolicy | None = None,
    **columns: str | Sequence[str],
) -> Table:
    """Read a table; `columns` maps names to columns of the file (several make a vector, [rows, k]).

    Without `columns` every column of the file is taken under its own name. Relative paths are those of
    `policy`, which also decides what may be read; without one, any readable file is taken.

    Series are arrays [samples, times, ...]. `time` is a column, one for all or [samples, times] for each,
    or says where evenly spaced values stand: from the first to the last of a span, or from 0 by a step.
    `length` names the column of how many values of each series count; `drop` and `drop_rows` are the shares
    of values and of whole times that are left out by chance; `standard` takes off mean and deviation.
    """
    name = os.fspath(path)
    file = policy.read(name) if policy is not None else Path(name)
    raw = _load(file, name)
    wanted: dict[str, str | Sequence[str]] = dict(columns)
    if not wanted:
        wanted = {c: c for c in raw.names if c != time}
    values: dict[str, Tensor] = {}
    for column, origin in wanted.items():
        if isinstance(origin, str):
            values[column] = raw.column(_known(raw, origin, name))
        else:
            values[column] = torch.stack([raw.column(_known(raw, o, name)) for o in origin], dim=-1)
    values, axis, panel = _placed(raw, values, time, name)
    _agree(values, axis, panel, name)
    if not panel or axis is None:
        if length is not None or drop or drop_rows or standard:
            raise DataError(
                f"`length`, `drop` and `standard` are of many series, and `{name}` has one",
                code="NDL613",
                help="say where the values of the arrays [samples, times] stand: `time = 0..1`",
            )
        return Table(values, axis, panel, name)
    if length is not None:
        values = cut(values, raw.column(_known(raw, length, name)), len(axis))
    if drop or drop_rows:
        values = dropped(values, len(axis), drop, drop_rows, seed)
    found = Table(values, axis, panel, name)
    return found.standard(scales_of(values, len(axis))) if standard else found


def _placed(
    raw: Raw, values: dict[str, Tensor], time: str | tuple[float, float] | float | None, name: str
) -> tuple[dict[str, Tensor], Tensor | None, bool]:
    """The columns over their axis of times, and whether they have samples before it."""
    if time is None:
        return values, None, False
    if not isinstance(time, str):
        return values, evenly(values, time, name), True
    own = raw.column(_known(raw, time, name))
    if own.ndim == 2:
        return *merged(values, own, name), True
    axis = _time_axis(raw, time, name)
    return values, axis, _is_panel(values, int(axis.shape[0]))


def _load(file: Path, name: str) -> Raw:
    suffix = file.suffix.lower()
    if suffix not in READERS:
        known = ", ".join(sorted(READERS))
        raise DataError(
            f"`{name}` is not a kind of table that NDL reads", help=f"the endings it reads are {known}"
        )
    if not file.exists():
        near = did_you_mean(file.name, [p.name for p in file.parent.glob("*")])
        raise DataError(f"there is no file `{name}`", help=near, notes=(f"looked for {file.absolute()}",))
    if not file.is_file():
        raise DataError(f"`{name}` is not a file")
    try:
        return READERS[suffix](file, name)
    except OSError as error:
        raise DataError(f"`{name}` cannot be read: {error.strerror or error}") from error


def _known(raw: Raw, column: str, name: str) -> str:
    if column not in raw.names:
        near = did_you_mean(column, raw.names)
        notes = (f"its columns are {_listed(raw.names)}",) if near else ()
        raise DataError(
            f"`{name}` has no column `{column}`",
            code="NDL611",
            help=near or f"its columns are {_listed(raw.names)}",
            notes=notes,
        )
    return column


def _time_axis(raw: Raw, time: str, name: str) -> Tensor:
    """The time column, checked to be complete and increasing."""
    t = raw.column(_known(raw, time, name))
    if t.ndim != 1:
        raise DataError(f"the time `{time}` of `{name}` has shape {_shape(t)}, not one axis", code="NDL613")
    for k in torch.nonzero(~torch.isfinite(t)).flatten().tolist():
        raise DataError(f"the time `{time}` of `{name}` is missing in {raw.row(k)}", code="NDL613")
    for k in torch.nonzero(t[1:] <= t[:-1]).flatten().tolist():
        before, after = float(t[k]), float(t[k + 1])
        what = "is there twice" if before == after else f"comes after {before:.15g}"
        raise DataError(
            f"the time {after:.15g} in {raw.row(k + 1)} of `{name}` {what}",
            code="NDL613",
            help="keep one row for each time" if before == after else f"sort the rows by `{time}`",
        )
    return t


def _is_panel(values: Mapping[str, Tensor], times: int) -> bool:
    """Whether the columns have samples before times: no column has time first, some have it second."""
    first = [v.shape[0] == times for v in values.values()]
    second = [v.ndim > 1 and v.shape[1] == times for v in values.values()]
    return not all(first) and any(second)


def _agree(values: Mapping[str, Tensor], axis: Tensor | None, panel: bool, name: str) -> None:
    """Refuse columns of different lengths; a panel's columns without times are one value a sample."""
    if not values:
        raise DataError(f"`{name}` has no columns besides its time", code="NDL611")
    if axis is not None and not panel:
        for column, v in values.items():
            if v.ndim == 0 or v.shape[0] != axis.shape[0]:
                raise DataError(
                    f"the column `{column}` of `{name}` has shape {_shape(v)}, but there are "
                    f"{axis.shape[0]} times",
                    code="NDL613",
                )
        return
    lengths = {column: v.shape[0] if v.ndim else 0 for column, v in values.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"`{c}` has {n}" for c, n in lengths.items())
        raise DataError(f"the columns of `{name}` differ in length: {shown}", code="NDL613")


def _listed(names: Mapping[str, Tensor] | Sequence[str]) -> str:
    shown = [f"`{n}`" for n in names]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")


def _shape(v: Tensor) -> str:
    return "[" + ", ".join(map(str, v.shape)) + "]"
