"""Random fields: u = m + K^(1/2) xi for a covariance map K that is a function of the Laplacian.

In the waves e_j of a box (`ndl.runtime.waves`), in which K multiplies by numbers lambda_j, that is
u = m + sum_j sqrt(lambda_j) xi_j e_j with independent standard normals xi_j: the Karhunen-Loeve expansion.
Each xi_j is a function of (seed, stream, sample, step, turn) and of the numbers of its wave along each axis,
so that a finer grid adds waves and leaves those that were there alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.grids import Layout
from ndl.runtime.laws import numbers
from ndl.runtime.waves import Ends, eigenbasis, eigenvalues
from torch import Tensor

BITS = 24
"""Of a counter's word for the number of a wave, shared by the axes; the rest is for the component."""

Formula = tuple[Any, ...]
"""A covariance map: (`lap`,), (`identity`,), (`*`, number, map), (`+` | `-` | `@`, map, map),
(`^`, map, number), (`exp`, map)."""


def wave_numbers(waves: Sequence[int], total: int) -> Tensor:
    """A number for each wave, `[*waves]`, the same on every grid, of `total` bits. Raises `SettingError`
    where they are not enough."""
    bits = total // max(len(waves), 1)
    if any(n > 2**bits for n in waves):
        most = f"{2**bits} waves along each of {len(waves)} coordinates"
        raise SettingError(f"a random field here has at most {most}", help="take a coarser grid")
    code = torch.zeros((), dtype=torch.int64)
    for n in waves:
        code = (code[..., None] << bits) | torch.arange(n)
    return code


def places(shape: Sequence[int], axes: int) -> Tensor:
    """The counters of the numbers behind a field, `[*shape]`: the first `axes` of the shape count waves, the
    rest components. Raises `SettingError` beyond 2^24 waves along a line, 2^12 a side in the plane, 2^8 in
    space, and beyond 2^8 components."""
    waves, components = tuple(shape[:axes]), tuple(shape[axes:])
    if prod(components) > 2 ** (32 - BITS):
        raise SettingError(f"a random field has at most {2 ** (32 - BITS)} components")
    code = wave_numbers(waves, BITS)
    component = torch.arange(prod(components)).reshape(components) << BITS
    return code.reshape(*waves, *(1,) * len(components)) | component


@dataclass(frozen=True)
class Line:
    """One axis of a grid and the waves along it; of `stored` waves all axes, `shape`."""

    layout: Layout
    ends: Ends
    count: int
    shape: tuple[int, ...] = ()

    def basis(self) -> Tensor:
        """`[n, count]`"""
        return eigenbasis(self.layout, self.ends, self.count)


Lines = tuple[Line, ...]


@dataclass(frozen=True)
class RandomField:
    """`normal(mean, covariance)` on a grid, or with `log` the exponential of that. `apart` are the waves of
    the components, in order, where conditions make them different; `lines` is then that of the first."""

    lines: Lines
    covariance: Formula
    mean: Any = 0.0
    log: bool = False
    apart: tuple[Lines, ...] = ()

    @classmethod
    def of(cls, parts: Any, covariance: Formula, mean: Any = 0.0, log: bool = False) -> RandomField:
        """From the waves that a compiled model tells of a field."""
        every = tuple(tuple(Line(*line) for line in part) for part in parts)
        return cls(every[0], covariance, mean, log, every if len(every) > 1 else ())

    @property
    def waves(self) -> tuple[int, ...]:
        return tuple(max(each) for each in zip(*([q.count for q in p] for p in self.apart or (self.lines,))))

    def at(
        self,
        member: Tensor,
        components: Sequence[int] = (),
        *,
        seed: int = 0,
        stream: int | str = 0,
        step: int = 0,
    ) -> Tensor:
        """`[..., *grid, *components]`: the fields of the members numbered `member [...]`."""
        shape = (*self.waves, *components)
        where = places(shape, len(self.lines))
        return self.made(numbers(member, shape, seed, stream, step, where).z, len(components))

    def made(self, normals: Tensor, rank: int = 0) -> Tensor:
        """The field of standard normals `[..., *waves, *components]`, `rank` the number of axes of
        components."""
        if self.apart:
            first = normals.ndim - rank
            flat = normals.flatten(first).unbind(-1)
            each = [self._centred(v, lines, 0) for v, lines in zip(flat, self.apart, strict=True)]
            whole = torch.stack(each, -1)
            found = whole.reshape(*whole.shape[:-1], *normals.shape[first:])
        else:
            found = self._centred(normals, self.lines, rank)
        found = found + torch.as_tensor(self.mean, dtype=found.dtype, device=found.device)
        made: Tensor = found.exp() if self.log else found
        return made

    def _centred(self, normals: Tensor, lines: Lines, rank: int) -> Tensor:
        """The field less its mean; of more numbers than waves the first ones count."""
        first = normals.ndim - rank - len(lines)
        for k, line in enumerate(lines):
            normals = normals.narrow(first + k, 0, line.count)
        spread = self.spread(lines)
        found = normals * spread.reshape(*spread.shape, *(1,) * rank).to(normals)
        for k, line in enumerate(lines):
            moved = found.movedim(first + k, -1) @ line.basis().to(found).mT
            found = moved.movedim(-1, first + k)
            if line.shape:
                found = found.reshape(*found.shape[: first + k], *line.shape, *found.shape[first + k + 1 :])
        return found

    def spread(self, lines: Lines | None = None) -> Tensor:
        """The standard deviations of the coefficients of the waves, `[*waves]`. Raises `SettingError` where a
        variance is negative."""
        lap = torch.zeros((), dtype=torch.float64)
        for line in lines or self.lines:
            lap = lap[..., None] + eigenvalues(line.layout, line.ends, line.count)
        found = spectrum(self.covariance, lap).expand(lap.shape)
        if bool((found < 0).any()):
            raise SettingError(
                f"a covariance takes each wave to a multiple that is not negative, and this one multiplies "
                f"by {float(found.min()):.3g}",
                help="write it as a positive function of `-lap`, such as `(identity - lap)^-2`",
            )
        return spectrum(("^", self.covariance, 0.5), lap).expand(lap.shape)


def spectrum(map_: Any, lap: Tensor) -> Tensor:
    """What a map multiplies waves by, that the Laplacian multiplies by `lap`. What is 0 stays 0 under
    powers."""
    op, *of = map_
    if op == "lap":
        return lap
    if op == "identity":
        return torch.ones_like(lap)
    if op == "*":
        return torch.as_tensor(of[0], dtype=lap.dtype) * spectrum(of[1], lap)
    if op == "exp":
        return spectrum(of[0], lap).exp()
    if op == "^":
        base = spectrum(of[0], lap)
        gone = base == 0
        power = torch.where(gone, 1.0, base) ** torch.as_tensor(of[1], dtype=lap.dtype)
        return torch.where(gone, 0.0, power)
    a, b = (spectrum(m, lap) for m in of)
    return a * b if op == "@" else a + b if op == "+" else a - b
