"""Many series in one table: a common axis of times, lengths, values left out, standard scales, gaps filled.

A column of series is `[samples, times, ...]`, NaN where a series has nothing: before it begins, after its
end, at times that are another's, and where a value is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from ndl.runtime.draws import draw
from ndl.runtime.errors import DataError, SettingError
from torch import Tensor

Columns = dict[str, Tensor]


def timed(columns: Mapping[str, Tensor], times: int) -> list[str]:
    """The columns that have an axis of times after that of samples."""
    return [name for name, v in columns.items() if v.ndim > 1 and v.shape[1] == times]


def evenly(columns: Mapping[str, Tensor], span: tuple[float, float] | float, name: str) -> Tensor:
    """Times of evenly spaced values: from the first to the last of a span, or from 0 by a step."""
    lengths = {c: v.shape[1] for c, v in columns.items() if v.ndim > 1}
    if len(set(lengths.values())) != 1:
        shown = ", ".join(f"`{c}` has {n}" for c, n in lengths.items()) or "no column has an axis of times"
        raise DataError(
            f"the series of `{name}` do not share their times: {shown}",
            code="NDL613",
            help='name the array of times: `time="t"`',
        )
    count = next(iter(lengths.values()))
    if isinstance(span, tuple):
        if not span[1] > span[0]:
            raise DataError(f"the times {span[0]:g}..{span[1]:g} do not increase", code="NDL613")
        return torch.linspace(span[0], span[1], count, dtype=torch.float64)
    if not span > 0:
        raise DataError(f"`time = every {span:g}` needs a step above 0", code="NDL613")
    return span * torch.arange(count, dtype=torch.float64)


def merged(columns: Mapping[str, Tensor], times: Tensor, name: str) -> tuple[Columns, Tensor]:
    """Series with times of their own, `times [samples, k]` padded with NaN, over the union of all times."""
    present = torch.isfinite(times)
    for s in range(len(times)):
        own = times[s][present[s]]
        if bool((own.diff() <= 0).any()):
            raise DataError(f"the times of sample {s} of `{name}` do not increase", code="NDL613")
    axis = torch.unique(times[present])
    place = torch.searchsorted(axis, torch.where(present, times, axis[0]))
    found: Columns = {}
    for column, v in columns.items():
        if v.ndim < 2 or v.shape[:2] != times.shape:
            found[column] = v
            continue
        out = v.new_full((len(v), len(axis), *v.shape[2:]), torch.nan)
        rows, slots = torch.nonzero(present, as_tuple=True)
        found[column] = out.index_put((rows, place[rows, slots]), v[rows, slots])
    return found, axis


def cut(columns: Columns, lengths: Tensor, times: int) -> Columns:
    """Nothing after the end of each series, of which the first `lengths [samples]` values count."""
    over = torch.arange(times)[None] >= lengths.reshape(-1, 1)
    found = dict(columns)
    for name in timed(columns, times):
        v = columns[name]
        found[name] = torch.where(over.reshape(*over.shape, *(1,) * (v.ndim - 2)), torch.nan, v)
    return found


def dropped(columns: Columns, times: int, values: float, rows: float, seed: int) -> Columns:
    """Series of which each value is missing with the chance `values`, and each time of a sample, with all its
    components, with the chance `rows`: functions of the seed and the column's name."""
    for chance in (values, rows):
        if not 0 <= chance < 1:
            raise SettingError(f"the share of values to drop is {chance:g}; it is from 0 to below 1")
    found = dict(columns)
    for name in timed(columns, times):
        v = columns[name]
        stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        out = draw("uniform", v.shape, seed=seed, stream=stream) < values
        whole = draw("uniform", v.shape[:2], seed=seed, stream=stream, turn=1) < rows
        found[name] = torch.where(out | whole.reshape(*v.shape[:2], *(1,) * (v.ndim - 2)), torch.nan, v)
    return found


def scales_of(columns: Columns, times: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation of each component of the series, missing values ignored."""
    found = {}
    for name in timed(columns, times):
        v = columns[name].flatten(0, 1)
        mean = v.nanmean(0)
        deviation = ((v - mean) ** 2).nanmean(0).sqrt()
        found[name] = (mean.nan_to_num(), torch.where(deviation > 0, deviation, 1.0))
    return found


def filled(ts: Tensor, xs: Tensor) -> Tensor:
    """Values `[..., k, components]` at the times `ts [k]` without gaps: each component straight between its
    known neighbours, constant before the first and after the last; 0 where nothing is known."""
    if not bool(torch.isnan(xs).any()):
        return xs
    known = ~torch.isnan(xs)
    k = torch.arange(len(ts)).reshape(-1, 1)
    before = torch.where(known, k, -1).cummax(-2).values
    after = torch.where(known, k, len(ts)).flip(-2).cummin(-2).values.flip(-2)
    left = torch.where(before >= 0, before, after).clamp(max=len(ts) - 1)
    right = torch.where(after < len(ts), after, before).clamp(min=0)
    plain = torch.where(known, xs, 0.0)
    x0, x1 = plain.gather(-2, left), plain.gather(-2, right)
    t = ts.to(xs)
    gap = t[right] - t[left]
    share = torch.where(gap > 0, (t.reshape(-1, 1) - t[left]) / torch.where(gap > 0, gap, 1.0), 0.0)
    return torch.where(known, xs, x0 + share * (x1 - x0))
