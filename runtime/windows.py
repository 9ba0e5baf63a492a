"""Windows that slide over the last axes of arrays, and convolutions, with any leading batch axes.

Arguments are those of `ndl.compiler.ops.families.windows`: `stride`, `dilation` and `pad` (before, after)
have an entry for each axis that the window slides over.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Pads = Sequence[tuple[int, int]]
CONVOLVE: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONVOLVE_BACK: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def padded(x: Tensor, pad: Pads) -> Tensor:
    """x with zeros before and after its last axes."""
    if not any(n for pair in pad for n in pair):
        return x
    return F.pad(x, [n for pair in reversed(pad) for n in pair])


def unfold(
    x: Tensor, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int], pad: Pads
) -> Tensor:
    """The windows of x, [..., *places, *size]: a view of the padded array."""
    wide, first = padded(x, pad), x.ndim - len(size)
    for k, (n, s, d) in enumerate(zip(size, stride, dilation)):
        wide = wide.unfold(first + k, (n - 1) * d + 1, s)[..., ::d]
    return wide


def fold(
    y: Tensor, shape: Sequence[int], stride: Sequence[int], dilation: Sequence[int], pad: Pads
) -> Tensor:
    """Windows [..., *places, *size] added up where they stood in an array [..., *shape]."""
    count = len(shape)
    lead, places, size = y.shape[: -2 * count], y.shape[-2 * count : -count], y.shape[-count:]
    wide = y.new_zeros((*lead, *(n + lo + hi for n, (lo, hi) in zip(shape, pad))))
    flat = y.flatten(-count)
    for k, window in enumerate(itertools.product(*(range(n) for n in size))):
        where: list[slice] = [
            slice(j * d, j * d + (m - 1) * s + 1, s) for j, d, s, m in zip(window, dilation, stride, places)
        ]
        wide[_behind(where)] += flat[..., k]
    return wide[_behind([slice(lo, lo + n) for n, (lo, _) in zip(shape, pad)])]


def _behind(where: Sequence[slice]) -> Any:
    """Slices of the last axes."""
    return (..., *where)


def grouped(x: Tensor, axis: int, groups: int) -> Tensor:
    """An axis of channels (counted from the end) as one of groups and one of channels in each."""
    at = x.ndim + axis
    return x.reshape(*x.shape[:at], groups, -1, *x.shape[at + 1 :])


def convolve(
    K: Tensor, x: Tensor, stride: Sequence[int], dilation: Sequence[int], pad: Pads, groups: int, own: int
) -> Tensor:
    """sum over c, j of K[o, c, j] x[c, i*stride + j*dilation - before], [..., out, *places]; `own` axes of a
    sample stand before its channels."""
    K, x = _alike(K, x)
    count = len(stride)
    if K.ndim > count + 2 or K.is_complex():
        return _by_windows(_before(K, own, count), x, stride, dilation, pad, groups)
    lead = x.shape[: x.ndim - count - 1]
    even = all(lo == hi for lo, hi in pad)
    wide = x if even else padded(x, pad)
    flat = wide.reshape(prod(lead), *wide.shape[len(lead) :])
    before = [lo for lo, _ in pad] if even else 0
    found: Tensor = CONVOLVE[count](flat, K, None, tuple(stride), before, tuple(dilation), groups)
    return found.reshape(*lead, *found.shape[1:])


def convolve_back(
    K: Tensor,
    y: Tensor,
    shape: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    pad: Pads,
    groups: int,
    own: int,
) -> Tensor:
    """The transpose of `convolve` for arrays [..., in, *shape]: what y [..., out, *places] gives there."""
    K, y = _alike(K, y)
    count = len(stride)
    if K.ndim > count + 2 or K.is_complex():
        return _back_by_windows(_before(K, own, count), y, shape, stride, dilation, pad, groups)
    lead = y.shape[: y.ndim - count - 1]
    flat = y.reshape(prod(lead), *y.shape[len(lead) :])
    whole: Tensor = CONVOLVE_BACK[count](flat, K, None, tuple(stride), 0, 0, groups, tuple(dilation))
    for k, (n, (lo, _)) in enumerate(zip(shape, pad)):
        axis = 2 + k
        missing = lo + n - whole.shape[axis]
        if missing > 0:  # places that no window reads
            ends = [0] * (2 * (count - k - 1)) + [0, missing]
            whole = F.pad(whole, ends)
        whole = whole.narrow(axis, lo, n)
    return whole.reshape(*lead, *whole.shape[1:])


def _before(K: Tensor, own: int, count: int) -> Tensor:
    """Kernels with a batch, to meet axes of a sample that stand before its channels."""
    return K[(..., *([None] * own), *([slice(None)] * (count + 2)))]


def _alike(K: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(K.dtype, x.dtype)
    return K.to(wide), x.to(wide)


def _equation(count: int, left: str, right: str) -> str:
    """An equation over groups g, channels o and c, places and the entries of a window."""
    at, window = "xyz"[:count], "uvw"[:count]
    names = {"K": f"...goc{window}", "windows": f"...gc{at}{window}", "result": f"...go{at}"}
    return f"{names['K']},{names[left]}->{names[right]}"


def _by_windows(
    K: Tensor, x: Tensor, stride: Sequence[int], dilation: Sequence[int], pad: Pads, groups: int
) -> Tensor:
    """`convolve` where kernels have a batch of their own."""
    count = len(stride)
    size = K.shape[K.ndim - count :]
    windows = grouped(unfold(x, size, stride, dilation, pad), -2 * count - 1, groups)
    kernels = grouped(K, -count - 2, groups)
    found: Tensor = torch.einsum(_equation(count, "windows", "result"), kernels, windows)
    return found.flatten(-count - 2, -count - 1)


def _back_by_windows(
    K: Tensor,
    y: Tensor,
    shape: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    pad: Pads,
    groups: int,
) -> Tensor:
    count = len(stride)
    kernels = grouped(K, -count - 2, groups)
    parts = grouped(y, -count - 1, groups)
    windows: Tensor = torch.einsum(_equation(count, "result", "windows"), kernels, parts)
    return fold(windows.flatten(-2 * count - 2, -2 * count - 1), shape, stride, dilation, pad)
