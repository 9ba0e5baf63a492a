"""Solutions as data frames, datasets and files."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.runtime.atomic import replacing, write_text
from ndl.runtime.draws import WAVES
from ndl.runtime.errors import DataError
from ndl.runtime.grids import grid_of, grid_points
from ndl.runtime.info import GridInfo
from ndl.runtime.meshes import tables
from ndl.runtime.portions import MEMBER
from torch import Tensor

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


def real_columns(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns, of complex numbers two: `z.real` and `z.imag`."""
    found: dict[str, np.ndarray] = {}
    for name, values in table.items():
        if np.iscomplexobj(values):
            found |= {f"{name}.real": values.real, f"{name}.imag": values.imag}
        else:
            found[name] = values
    return found


def to_xarray(s: Solution) -> Any:
    try:
        import xarray
    except ImportError:
        raise _missing("xarray", "xarray") from None
    lead = ["member"] if s.problem.ensemble else []
    times = [] if s.problem.steady else ["time"]
    data: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}
    for name in s.names():
        values = s.get(name).values.detach().cpu().numpy()
        shape = values.shape[len(lead) + 1 :]
        grid = grid_of(shape, s.model.GRIDS)
        if grid is not None and grid.mesh:
            nodes = tables(grid.mesh).nodes.T
            coordinates |= {c: (_node(grid), x) for c, x in zip(grid.coordinates, nodes)}
            data[f"{grid.domain}_cells"] = (
                [f"{grid.domain}_cell", f"{grid.domain}_corner"],
                tables(grid.mesh).corners,
            )
        elif grid is not None:
            coordinates |= {
                c: grid_points(layout).numpy() for c, layout in zip(grid.coordinates, grid.layouts)
            }
        values = values if times else values.squeeze(len(lead))
        data[name] = ([*lead, *times, *named_axes(name, shape, s.model.GRIDS)], values)
    if lead:
        own = ((name, axes, values) for name, axes, values in beside(s, data) if axes[:1] == (MEMBER,))
        data |= {name: (list(axes), values) for name, axes, values in own}
    t = s.t.detach().cpu().numpy()
    if t.ndim == 1 and times:
        coordinates["time"] = t
    elif times:
        data["t"] = (["member", "time"], t)
        data["valid"] = (["member", "time"], s.saved.valid)
    if lead:
        coordinates["member"] = np.arange(s.problem.count)
    return xarray.Dataset(data, coords=coordinates, attrs=attributes(s))


def beside(s: Solution, taken: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...], np.ndarray]]:
    """Parameters, constant inputs and draws of a bound model that are arrays or differ between members, and
    initial values that were not saved, with the names of their axes; not the numbers behind a random field,
    which a derived quantity records."""
    model, count, taken = s.model, s.problem.count, set(taken)
    found = [(p.name, getattr(model, p.attribute or p.name), tuple(p.shape)) for p in model.PARAMETERS]
    draws = [d for d in model.DRAWS if d.per in ("sample", "member") and d.law != WAVES]
    for info in (*model.INPUTS, *draws):
        value = model._buffers.get(f"_input_{info.name}")
        if value is not None:
            found.append((info.name, value, tuple(info.shape)))
    for name, value, shape in found:
        label = f"parameter_{name}" if name in taken else name
        axes = named_axes(label, shape, model.GRIDS)
        if value.ndim > len(shape) and value.shape[0] == count:
            yield label, (MEMBER, *axes), value.detach().cpu().numpy()
        elif shape:
            yield label, axes, value.detach().cpu().numpy()
    if bool((s.saved.t[:, 0] == s.problem.t0).all()):
        return
    x = s.problem.x0.detach()
    for state in (state for state in model.STATES if not state.source):
        label = f"initial_{state.name}"
        values = state.value(x[:, state.places].reshape(count, *state.shape)).cpu().numpy()
        yield label, (MEMBER, *named_axes(label, state.seen, model.GRIDS)), values


def named_axes(name: str, shape: tuple[int, ...], grids: Any) -> tuple[str, ...]:
    """The names of a quantity's axes: coordinates of its grid, then numbered components."""
    grid = grid_of(shape, grids)
    axes = () if grid is None else (_node(grid),) if grid.mesh else tuple(grid.coordinates)
    return (*axes, *(f"{name}_{i}" for i in range(len(shape) - len(axes))))


def attributes(s: Solution) -> dict[str, str]:
    """What a data set says of itself: the model, its equations, the method, the seed, the version of NDL,
    parameters that are numbers."""
    from ndl import __version__

    model, method = s.problem.model, s.problem.method
    found = {"model": model.NAME, "equations": "\n".join(model.EQUATIONS), "method": method.name}
    found |= {"seed": str(s.problem.seed), "ndl": __version__}
    found |= {f"method {k}": str(v) for k, v in method.options.items() if v is not None}
    for p in model.PARAMETERS:
        value = getattr(model, p.attribute or p.name, None)
        if isinstance(value, Tensor) and value.ndim == 0:
            found[p.name] = repr(float(value.detach()))
    return found


def save(s: Solution, path: str | os.PathLike[str]) -> None:
    """Write `.csv`, `.parquet`, `.npz`, `.nc`, `.h5` or `.zarr` by the suffix. Raises `DataError` for another
    one."""
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        write_text(path, _csv(real_columns(columns(s))))
    elif suffix == ".npz":
        arrays = {name: s.get(name).values.detach().cpu().numpy() for name in s.names()}
        arrays["t"] = s.t.detach().cpu().numpy()
        for grid in s.model.GRIDS:
            if grid.mesh:
                arrays |= dict(zip(grid.coordinates, tables(grid.mesh).nodes.T))
                arrays[f"{grid.domain}_cells"] = tables(grid.mesh).corners
                continue
            arrays |= {c: grid_points(layout).numpy() for c, layout in zip(grid.coordinates, grid.layouts)}
        with replacing(path) as temporary:
            _npz(temporary, arrays)
    elif suffix == ".parquet":
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise _missing("pyarrow", "parquet") from None
        with replacing(path) as temporary:
            pyarrow.parquet.write_table(pyarrow.table(real_columns(columns(s))), temporary)
    elif suffix in (".nc", ".h5"):
        data = to_xarray(s)
        wanted("h5netcdf")
        with replacing(path) as temporary:
            # complex numbers are pairs `r`, `i` of HDF5, which NetCDF has no name for
            whole = not any(np.iscomplexobj(v) for v in data.variables.values())
            data.to_netcdf(temporary, engine="h5netcdf", invalid_netcdf=not whole)
    elif suffix == ".zarr":
        data = to_xarray(s)
        wanted("zarr")
        _store(data, Path(path))
    elif suffix == ".vtu":
        _vtu(s, path)
    else:
        raise DataError(f"`{path}` should end in .csv, .parquet, .npz, .nc, .h5, .zarr or .vtu")


def _node(grid: GridInfo) -> str:
    """The name of the axis of a mesh's nodes."""
    return f"{grid.domain}_node"


def _vtu(s: Solution, path: str | os.PathLike[str]) -> None:
    """The fields on a mesh at the end of a run, for ParaView and others. Raises `DataError` where there is no
    mesh."""
    grids = [g for g in s.model.GRIDS if g.mesh]
    if len(grids) != 1 or s.problem.ensemble:
        raise DataError("`.vtu` holds the fields on one mesh of a run without an ensemble")
    try:
        import meshio
    except ImportError:
        raise _missing("meshio", "mesh") from None
    mesh = tables(grids[0].mesh)
    values = {name: s.final[name].detach().cpu().numpy() for name in s.names()}
    n = len(mesh.nodes)
    fields = {k: v if v.ndim == 1 else v.reshape(n, -1) for k, v in values.items() if v.shape[:1] == (n,)}
    points = np.pad(mesh.nodes, ((0, 0), (0, 3 - mesh.nodes.shape[1])))
    kind = ("line", "triangle", "tetra")[mesh.nodes.shape[1] - 1]
    with replacing(path) as temporary:
        meshio.Mesh(points, [(kind, mesh.corners)], fields).write(temporary, file_format="vtu")


def wanted(package: str) -> None:
    """Raises `DataError` naming the extra where a package is missing."""
    if importlib.util.find_spec(package) is None:
        raise _missing(package, "store")


def _store(data: Any, path: Path) -> None:
    """A Zarr folder beside the old one, which it then replaces."""
    temporary = path.parent / f".{path.stem[:40]}-{secrets.token_hex(6)}.zarr"
    try:
        data.to_zarr(temporary, mode="w", zarr_format=2)
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
