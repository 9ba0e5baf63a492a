"""Solutions as data frames, datasets and files."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.runtime.atomic import replacing, write_text
from ndl.runtime.errors import DataError

if TYPE_CHECKING:
    from ndl.runtime.solution import Solution


def columns(s: Solution) -> dict[str, np.ndarray]:
    """Flat columns of one length: member (with an ensemble), t, and each component of each quantity."""
    valid = s.saved.valid
    out: dict[str, np.ndarray] = {}
    if s.problem.ensemble:
        out["member"] = np.broadcast_to(np.arange(s.problem.count)[:, None], valid.shape)[valid]
    out["t"] = s.saved.t[valid]
    for name in s.names():
        values = s.get(name).values.detach().cpu().numpy()
        values = values if s.problem.ensemble else values[None]
        for index in np.ndindex(values.shape[2:]):
            label = name + (f"[{', '.join(map(str, index))}]" if index else "")
            out[label] = values[(slice(None), slice(None), *index)][valid]
    return out


def to_pandas(s: Solution) -> Any:
    try:
        import pandas
    except ImportError:
        raise _missing("pandas", "pandas") from None
    return pandas.DataFrame(columns(s))


def to_xarray(s: Solution) -> Any:
    try:
        import xarray
    except ImportError:
        raise _missing("xarray", "xarray") from None
    lead = ["member"] if s.problem.ensemble else []
    data = {}
    for name in s.names():
        values = s.get(name).values.detach().cpu().numpy()
        more = [f"{name}_{i}" for i in range(values.ndim - len(lead) - 1)]
        data[name] = ([*lead, "time", *more], values)
    coordinates: dict[str, Any] = {}
    t = s.t.detach().cpu().numpy()
    if t.ndim == 1:
        coordinates["time"] = t
    else:
        data["t"] = (["member", "time"], t)
        data["valid"] = (["member", "time"], s.saved.valid)
    if lead:
        coordinates["member"] = np.arange(s.problem.count)
    return xarray.Dataset(data, coords=coordinates)


def save(s: Solution, path: str | os.PathLike[str]) -> None:
    """Write `.csv`, `.parquet` or `.npz` by the suffix. Raises `DataError` for another one."""
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        write_text(path, _csv(columns(s)))
    elif suffix == ".npz":
        arrays = {name: s.get(name).values.detach().cpu().numpy() for name in s.names()}
        arrays["t"] = s.t.detach().cpu().numpy()
        with replacing(path) as temporary:
            _npz(temporary, arrays)
    elif suffix == ".parquet":
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise _missing("pyarrow", "parquet") from None
        with replacing(path) as temporary:
            pyarrow.parquet.write_table(pyarrow.table(columns(s)), temporary)
    else:
        raise DataError(f"`{path}` should end in .csv, .parquet or .npz")


def _npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """As `numpy.savez`, which takes no array called `file`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)


def _csv(table: dict[str, np.ndarray]) -> str:
    """Numbers with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow([repr(v.item()) for v in row])
    return text.getvalue()


def _missing(package: str, extra: str) -> DataError:
    return DataError(
        f"this needs `{package}`", code="NDL614", help=f"install it with `pip install 'ndl-lang[{extra}]'`"
    )
