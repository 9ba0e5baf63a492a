"""What generated code calls beside torch: operations on samples with any leading batch axes.

Ranks and axes are those of one sample (axes counted from the end); batch axes stand in front and
broadcast. Arguments called numbers may be Python numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from ndl.runtime.colouring import LEAST
from ndl.runtime.duals import from_waves, pair, to_waves
from ndl.runtime.eigen import eigvalsh, eigvecsh, symmetric_power
from ndl.runtime.grids import (
    chebyshev,
    grid_points,
    grid_weights,
    lift,
    lower,
    mask,
    multiplier,
    stencil,
    symbol,
    truncate,
)
from ndl.runtime.implicit import implicit_root
from ndl.runtime.interpolation import cardinal
from ndl.runtime.linear_maps import LinearMap, jacobian_map
from ndl.runtime.linear_maps import diagonal as diagonal_map
from ndl.runtime.meshes import mesh_apply, mesh_cardinal, mesh_data, mesh_index, mesh_solve
from ndl.runtime.modes import modal, modal_dot
from ndl.runtime.sets import nearest
from ndl.runtime.spectra import axis_spectrum, eigenmodes, eigenmodes_dot
from ndl.runtime.stepping.coarse import coarse_power
from ndl.runtime.traced_maps import Formula, map_function, map_function_along, map_function_back
from ndl.runtime.waves import eigenbasis, eigenvalues
from ndl.runtime.weights import broadcast_shapes
from ndl.runtime.windows import convolve, convolve_back, fold, unfold
from torch import Tensor

__all__ = [
    "cardinal",
    "chebyshev",
    "coarse_power",
    "convolve",
    "convolve_back",
    "fold",
    "grid_points",
    "grid_weights",
    "lift",
]
__all__ += ["lower", "mesh_apply", "mesh_cardinal", "mesh_data", "mesh_index", "mesh_solve", "nearest"]
__all__ += ["mask", "multiplier", "stencil", "symbol", "truncate", "unfold"]
__all__ += ["eigenbasis", "eigenvalues", "from_waves", "modal", "modal_dot", "pair", "to_waves"]


def training(module: torch.nn.Module) -> Tensor:
    """Whether a module is being trained, as a truth value."""
    return torch.tensor(module.training)


def batch_mean(x: Tensor, rank: int) -> Tensor:
    """The mean over the batch axes, for every sample; x itself where there are none."""
    lead = tuple(range(x.ndim - rank))
    return x.mean(lead, keepdim=True).expand_as(x) if lead else x


def batch_sum(x: Tensor, rank: int) -> Tensor:
    """The sum over the batch axes, for every sample."""
    lead = tuple(range(x.ndim - rank))
    return x.sum(lead, keepdim=True).expand_as(x) if lead else x


def batch_var(x: Tensor, rank: int) -> Tensor:
    """The mean square distance from the batch's mean, for every sample; 0 where there is no batch."""
    gap = x - batch_mean(x, rank)
    return batch_mean(gap * gap, rank)


def batch_size(x: Tensor, rank: int) -> Tensor:
    """How many samples the batch has that x belongs to."""
    count = math.prod(x.shape[: x.ndim - rank])
    return torch.full((), count, dtype=x.dtype if x.is_floating_point() else torch.float64, device=x.device)


def expand(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x, whose last axes are 1 or those of `shape`, repeated to [..., *shape]."""
    return x.expand(x.shape[: x.ndim - len(shape)] + shape)


def reshape(x: Tensor, rank: int, shape: tuple[int, ...]) -> Tensor:
    """The last `rank` axes of x as `shape`."""
    return x.reshape(x.shape[: x.ndim - rank] + shape)


def permute(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The last axes of x in another order."""
    batch = x.ndim - len(axes)
    return x.permute(*range(batch), *(batch + a for a in axes))


def matvec(A: Tensor | LinearMap, x: Tensor) -> Tensor:
    """A x, for A [..., m, n] and x [..., n]; one matrix for the whole batch is a matrix product."""
    if isinstance(A, LinearMap):
        return A.matvec(x)
    if A.ndim == 2:
        return F.linear(x, A)
    return torch.matmul(A, x.unsqueeze(-1)).squeeze(-1)


def vecmat(x: Tensor, A: Tensor) -> Tensor:
    """x A, for x [..., m] and A [..., m, n]."""
    if A.ndim == 2:
        return torch.matmul(x, A)
    return torch.matmul(x.unsqueeze(-2), A).squeeze(-2)


def dot(x: Tensor, y: Tensor) -> Tensor:
    """The sum of products along the last axis."""
    return (x * y).sum(-1)


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """torch's einsum for operands of mixed kinds."""
    wide = operands[0].dtype
    for x in operands[1:]:
        wide = torch.promote_types(wide, x.dtype)
    result: Tensor = torch.einsum(equation, *(x.to(wide) for x in operands))
    return result


def diagonal(entries: Tensor) -> Tensor | LinearMap:
    """The matrix of a diagonal; of a long one, without its zeros."""
    if entries.shape[-1] <= LEAST["cpu"]:
        return torch.diag_embed(entries)
    return diagonal_map(entries)


def solve(A: Tensor | LinearMap, b: Tensor) -> Tensor:
    """The x [..., n] with A x = b; nan where A is singular."""
    if isinstance(A, LinearMap):
        return A.solve(b)
    return solve_columns(A, b.unsqueeze(-1)).squeeze(-1)


def solve_columns(A: Tensor, B: Tensor) -> Tensor:
    """The X [..., n, k] with A X = B; nan where A is singular."""
    return _regular(*torch.linalg.solve_ex(A, B))


def inverse(A: Tensor) -> Tensor:
    """A^-1 [..., n, n]; nan where A is singular."""
    return _regular(*torch.linalg.inv_ex(A))


def cholesky(A: Tensor) -> Tensor:
    """The lower triangle L [..., n, n] with A = L L^T; nan where A is not positive definite."""
    return _regular(*torch.linalg.cholesky_ex(A))


def _regular(found: Tensor, info: Tensor) -> Tensor:
    """What a matrix gave, which is nan where it has none: a run then says where and when."""
    return torch.where((info == 0)[..., None, None], found, torch.nan)


def solve_jac(function: Callable[..., Tensor], wrt: int, *given: Tensor) -> Tensor:
    """J^-1 b with J the derivative of a callable by an argument; `given` are its arguments, then b. A
    callable with an `inverse` of its own solves with that."""
    *arguments, b = given
    own = getattr(function, "inverse", None)
    if own is not None and wrt == 0:
        found: Tensor = own(*arguments, b)
        return found
    return solve(apply_jac(function, wrt, *arguments), b)


def number(value: Tensor | float, like: Tensor) -> Tensor:
    """A Python number as a tensor of the dtype and device of another."""
    return value if isinstance(value, Tensor) else torch.full((), value, dtype=like.dtype, device=like.device)


def broadcast(*values: Tensor) -> list[Tensor]:
    """torch's `broadcast_tensors`, typed."""
    return list(torch.broadcast_tensors(*values))  # type: ignore[no-untyped-call]


def tensors(values: Sequence[Tensor | float]) -> list[Tensor]:
    """Numbers among the values as tensors like the others, all of one dtype."""
    like = next(v for v in values if isinstance(v, Tensor))
    found = [number(v, like) for v in values]
    kinds = {v.dtype for v in found}
    if len(kinds) > 1:
        wide = like.dtype
        for kind in kinds:
            wide = torch.promote_types(wide, kind)
        found = [v.to(wide) for v in found]
    return found


def stack(values: Sequence[Tensor | float], axis: int) -> Tensor:
    """Values of one shape per sample along a new axis; batch axes broadcast."""
    found = tensors(values)
    if any(v.shape != found[0].shape for v in found):
        found = broadcast(*found)
    return torch.stack(found, axis)


def matrix(rows: Sequence[Sequence[Tensor | float]]) -> Tensor:
    """Scalars as a matrix [..., rows, columns]; batch axes broadcast."""
    flat = stack([entry for row in rows for entry in row], -1)
    return reshape(flat, 1, (len(rows), len(rows[0])))


def concat(values: Sequence[Tensor], axis: int, rank: int) -> Tensor:
    """Values joined along an axis; batch axes broadcast."""
    found = tensors(values)
    batches = [v.shape[: v.ndim - rank] for v in found]
    if any(b != batches[0] for b in batches):
        batch = broadcast_shapes(*batches)
        found = [v.expand(batch + v.shape[v.ndim - rank :]) for v in found]
    return torch.cat(found, axis)


def pack(values: Sequence[Tensor | float], like: Tensor) -> Tensor:
    """Scalars as one vector [..., len(values)] with the batch axes of the state `like`."""
    return torch.stack(broadcast(like[..., 0], *(number(v, like) for v in values))[1:], -1)


def join(values: Sequence[Tensor], like: Tensor) -> Tensor:
    """Vectors joined to one, with the batch axes of the state `like`."""
    batch = broadcast_shapes(like.shape[:-1], *(v.shape[:-1] for v in values))
    return torch.cat([v.expand((*batch, v.shape[-1])) for v in values], -1)


def over(value: Tensor | float, like: Tensor, rank: int) -> Tensor:
    """A value of `rank` axes per sample, repeated along the batch axes of the state `like`."""
    value = number(value, like)
    shape = value.shape[value.ndim - rank :]
    return value.expand(broadcast_shapes(like.shape[:-1], value.shape[: value.ndim - rank]) + shape)


def array(value: Any, like: Tensor) -> Tensor:
    """A constant of the dtype and device of another tensor."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def gather(x: Tensor, at: Tensor, axis: int, rank: int, at_rank: int) -> Tensor:
    """x read along an axis (of `rank`) at whole numbers; negative ones count from the end."""
    where = at.long()
    n = x.shape[x.ndim - rank + axis]
    where = torch.where(where < 0, where + n, where)
    if where.ndim == at_rank:
        found = x.index_select(x.ndim - rank + axis, where.reshape(-1))
        return found if at_rank else found.squeeze(x.ndim - rank + axis)
    batch = broadcast_shapes(x.shape[: x.ndim - rank], where.shape[: where.ndim - at_rank])
    wide = x.expand(batch + x.shape[x.ndim - rank :]).movedim(len(batch) + axis, -1)
    places = where.expand(batch + where.shape[where.ndim - at_rank :])
    if not at_rank:
        places = places.unsqueeze(-1)
    middle = wide.shape[len(batch) : -1]
    places = places.reshape(batch + (1,) * len(middle) + places.shape[-1:])
    found = torch.gather(wide, -1, places.expand(batch + middle + places.shape[-1:]))
    return found.movedim(-1, len(batch) + axis) if at_rank else found.squeeze(-1)


def _pair(a: Tensor | float, b: Tensor | float) -> list[Tensor]:
    return tensors([a, b])


def maximum(a: Tensor | float, b: Tensor | float) -> Tensor:
    """The larger, when one of them is a number; a tie shares the gradient."""
    return torch.maximum(*_pair(a, b))


def minimum(a: Tensor | float, b: Tensor | float) -> Tensor:
    """The smaller, when one of them is a number."""
    return torch.minimum(*_pair(a, b))


def atan2(a: Tensor | float, b: Tensor | float) -> Tensor:
    """The angle of (b, a), when one of them is a number."""
    return torch.atan2(*_pair(a, b))


def imag(x: Tensor) -> Tensor:
    """The imaginary part, 0 for real numbers."""
    return x.imag if x.is_complex() else torch.zeros_like(x)


def apply_jac(function: Callable[..., Tensor], wrt: int, *arguments: Tensor) -> Tensor | LinearMap:
    """The derivative of a solver's callable by one argument, [..., *out, *in] for vectors and scalars; one
    that is sparse as a map."""
    matrices = getattr(function, "sparse", None)
    if wrt == 0 and matrices is not None and arguments[0].ndim == 2:
        x, t = arguments
        return jacobian_map(function.function, matrices(x, t), x, t)  # type: ignore[attr-defined]
    exact = getattr(function, ("jacobian", "time_derivative")[wrt], None) if wrt < 2 else None
    if exact is not None:
        found: Tensor = exact(*arguments)
        return found
    x = arguments[wrt]

    def along(direction: Tensor) -> Tensor:
        def moved(y: Tensor) -> Tensor:
            return function(*arguments[:wrt], y, *arguments[wrt + 1 :])

        result: Tensor = torch.func.jvp(moved, (x,), (direction.expand(x.shape),))[1]
        return result

    if wrt != 0:
        return along(torch.ones((), dtype=x.dtype, device=x.device))
    unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    columns: Tensor = torch.func.vmap(along)(unit)
    return columns.movedim(0, -1)


def root(
    function: Callable[..., Tensor],
    guess: Tensor,
    captured: tuple[Tensor, ...],
    rank: int,
    like: Any = None,
) -> Tensor:
    """The z [..., *shape] with function(z, *captured) = 0, by Newton's method from a guess; `like` is a
    vector field that the function reads, whose Jacobian shows how sparse that of the function is.

    Its derivative is that of the implicit function, for what the function captures in any way.
    """
    return implicit_root(function, guess, captured, rank, getattr(like, "colours", None))


def blocks(parts: Sequence[tuple[int, int, Tensor]], rows: int, columns: int, like: Tensor) -> Tensor:
    """A matrix [..., rows, columns] with matrices at (row, column) and zeros elsewhere."""
    whole = torch.zeros((), dtype=like.dtype, device=like.device)
    for row, column, part in parts:
        height, width = part.shape[-2:]
        block = part.expand(broadcast_shapes(like.shape[:-1], part.shape[:-2]) + part.shape[-2:])
        whole = whole + F.pad(block, (column, columns - column - width, row, rows - row - height))
    return whole.expand((*like.shape[:-1], rows, columns)) if whole.ndim == 0 else whole


def trigamma(x: Tensor) -> Tensor:
    """The second derivative of log Gamma, to double precision (torch's own is good to 3e-10).

    psi(x) = psi(x + 1) + 1/x^2 leads to x >= 12, where Abramowitz and Stegun 6.4.12 holds; below 1/2 x is
    reflected.
    """
    low = x < 0.5
    y = torch.where(low, 1 - x, x)
    total = torch.zeros_like(y)
    for _ in range(12):
        total = total + 1 / y**2
        y = y + 1
    z = 1 / y**2
    series = z * (1 / 6 - z * (1 / 30 - z * (1 / 42 - z * (1 / 30 - z * (5 / 66 - z * 691 / 2730)))))
    total = total + (1 + series) / y + z / 2
    mirrored = (math.pi / torch.sin(math.pi * torch.where(low, x, 0.5))) ** 2 - total
    return torch.where(low, mirrored, total)


__all__ += ["Formula", "map_function", "map_function_along", "map_function_back"]
__all__ += ["axis_spectrum", "eigenmodes", "eigenmodes_dot", "eigvalsh", "eigvecsh", "symmetric_power"]
