"""Windows that slide over the last axes of an array, and convolutions by them.

The last axes, as many as `stride` has entries, are the places n; axes before them are carried along. Window j
at place i reads x[i*stride + j*dilation - before], and 0 beyond the ends; `pad` has (before, after) for each
axis. `fold` is the adjoint of `unfold`, and `convolve_back` that of `convolve` in what it convolves.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import conj, extents, fit, op, plain
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.rules import common_domain, dims, numeric, product_unit, promote, tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Cotangents = list["Node | None"]
Pads = Sequence[tuple[int, int]]
GEOMETRY = ("stride", "dilation", "pad")


def places(n: Sequence[Dim], size: Sequence[Dim], a: Attributes) -> tuple[Dim, ...]:
    """How many windows there are along each axis."""
    found = []
    for extent, k, stride, dilation, (before, after) in zip(n, size, *(a[name] for name in GEOMETRY)):
        free = extent + before + after - (k - 1) * dilation - 1
        if free.constant is not None and free.constant < 0:
            raise TypeRuleError(
                f"a window of {k} (dilation {dilation}) does not fit into an axis of {extent}", [0]
            )
        found.append((free if stride == 1 else free // stride) + 1)
    return tuple(found)


def geometry(a: Attributes) -> str:
    """The arguments of a window in a text."""
    return ", ".join(repr(tuple(a[name])) for name in GEOMETRY)


def same(node: Node) -> dict[str, Any]:
    """The geometry of a node, for another one."""
    return {name: node.attr(name) for name in GEOMETRY}


# ---------------------------------------------------------------- unfold and fold


def _unfold_rule(types: Sequence[Type], a: Attributes) -> Type:
    (x,) = tensors(types, "a window")
    count = len(a["size"])
    if x.rank < count:
        raise TypeRuleError(f"windows over {count} axes of {x}", [0])
    at = x.rank - count
    return x.with_shape((*x.shape[:at], *places(x.shape[at:], dims(a["size"]), a), *dims(a["size"])))


def padded_reference(x: Any, pad: Pads) -> Any:
    """x with zeros before and after its last axes."""
    import torch

    flat = [n for pair in reversed(list(pad)) for n in pair]
    return torch.nn.functional.pad(x, flat)


def offsets(size: Sequence[int], a: Attributes, count: Sequence[int]) -> list[tuple[slice, ...]]:
    """For each entry of a window, what all windows read there in the padded array."""
    ranges = itertools.product(*(range(k) for k in size))
    return [
        tuple(
            slice(j * d, j * d + (m - 1) * s + 1, s)
            for j, d, s, m in zip(window, a["dilation"], a["stride"], count)
        )
        for window in ranges
    ]


def counts(n: Sequence[int], size: Sequence[int], a: Attributes) -> list[int]:
    """How many windows there are along each axis, of known extents."""
    return [d.constant or 0 for d in places(dims(n), dims(size), a)]


def _unfold_reference(x: Any, **a: Any) -> Any:
    import torch

    size, at = a["size"], x.ndim - len(a["size"])
    wide = padded_reference(x, a["pad"])
    read = [wide[(..., *where)] for where in offsets(size, a, counts(x.shape[at:], size, a))]
    return torch.stack(read, -1).reshape(*read[0].shape, *size)


def _unfold_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    (x,) = operands
    n = shape_of(x)[len(shape_of(x)) - len(node.attr("size")) :]
    return [fit(graph, op(graph, "fold", g, shape=tuple(plain(d) for d in n), **same(node)), x)]


register(
    Op(
        "unfold",
        _unfold_rule,
        _unfold_reference,
        lambda texts, types, a: call("ops.unfold", *texts, repr(tuple(a["size"])), geometry(a)),
        _unfold_vjp,
        linear=(0,),
    )
)


def _fold_rule(types: Sequence[Type], a: Attributes) -> Type:
    (y,) = tensors(types, "overlapping windows")
    count = len(a["shape"])
    at = y.rank - 2 * count
    if at < 0 or places(dims(a["shape"]), y.shape[at + count :], a) != y.shape[at : at + count]:
        raise TypeRuleError(f"{y} are not the windows of {Tensor('R', dims(a['shape']))}", [0])
    return y.with_shape((*y.shape[:at], *dims(a["shape"])))


def _fold_reference(y: Any, **a: Any) -> Any:
    import torch

    count, n = len(a["shape"]), a["shape"]
    size = y.shape[y.ndim - count :]
    wide: Any = torch.zeros(
        (*y.shape[: y.ndim - 2 * count], *(k + lo + hi for k, (lo, hi) in zip(n, a["pad"]))), dtype=y.dtype
    )
    flat = y.flatten(y.ndim - count)
    for k, where in enumerate(offsets(size, a, counts(n, size, a))):
        wide[(..., *where)] += flat[..., k]
    return wide[(..., *(slice(lo, lo + k) for k, (lo, _) in zip(n, a["pad"])))]


def _fold_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    (y,) = operands
    size = tuple(plain(d) for d in shape_of(y)[-len(node.attr("shape")) :])
    return [fit(graph, op(graph, "unfold", g, size=size, **same(node)), y)]


register(
    Op(
        "fold",
        _fold_rule,
        _fold_reference,
        lambda texts, types, a: call("ops.fold", *texts, repr(tuple(a["shape"])), geometry(a)),
        _fold_vjp,
        linear=(0,),
    )
)

# ---------------------------------------------------------------- convolutions


def _kernel(types: Sequence[Type], a: Attributes) -> tuple[Tensor, Tensor, int]:
    """The kernel R[out, in/groups, *size], what it meets, and how many axes it slides over."""
    K, x = operands = tensors(types, "a convolution")
    numeric(operands, "a convolution")
    count = K.rank - 2
    if not 1 <= count <= 3:
        raise TypeRuleError(f"a kernel is R[out, in, …] with one to three more axes, and this is {K}", [0])
    if any(len(a[name]) != count for name in GEOMETRY):
        raise TypeRuleError(
            f"stride, pad and dilation are for {len(a['stride'])} axes, and {K} has {count}", [0]
        )
    if x.rank < count + 1:
        raise TypeRuleError(f"{K} slides over {count} axes after one of channels, and this is {x}", [1])
    out = K.shape[0].constant
    if out is not None and out % a["groups"]:
        raise TypeRuleError(f"{out} channels do not make {a['groups']} groups", [0])
    return K, x, count


def _convolve_rule(types: Sequence[Type], a: Attributes) -> Type:
    K, x, count = _kernel(types, a)
    at = x.rank - count
    if x.shape[at - 1] != K.shape[1] * a["groups"]:
        groups = f" in {a['groups']} groups" if a["groups"] > 1 else ""
        raise TypeRuleError(f"{K} takes {K.shape[1] * a['groups']} channels{groups}, and this is {x}", [0, 1])
    shape = (*x.shape[: at - 1], K.shape[0], *places(x.shape[at:], K.shape[2:], a))
    on = common_domain([K, x], "a convolution")
    return Tensor(promote([K, x]), shape, on, product_unit(K, x))


def _lead(types: Sequence[Type]) -> str:
    """How many axes of a sample stand before its channels."""
    K, x = types
    return str(x.rank - K.rank + 1) if isinstance(K, Tensor) and isinstance(x, Tensor) else "0"


def _letters(count: int) -> tuple[str, str]:
    """Letters of the places and of the entries of a window."""
    return "xyz"[:count], "uvw"[:count]


def _equation(count: int, grouped: bool, what: str) -> str:
    """K[o, c, *u], windows of x [..., c, *x, *u], result [..., o, *x], with a group in front of o and c."""
    at, window = _letters(count)
    g = "g" if grouped else ""
    terms = {"K": f"{g}oc{window}", "windows": f"...{g}c{at}{window}", "result": f"...{g}o{at}"}
    left, right = what.split("->")
    return f"{','.join(terms[t] for t in left.split(','))}->{terms[right]}"


def _grouped(K: Any, groups: int) -> Any:
    return K.reshape(groups, -1, *K.shape[1:])


def _convolve_reference(K: Any, x: Any, **a: Any) -> Any:
    import torch

    wide, count = torch.promote_types(K.dtype, x.dtype), K.ndim - 2
    channel = x.ndim - count - 1
    windows = _unfold_reference(x.to(wide), size=K.shape[2:], **{k: a[k] for k in GEOMETRY})
    windows = windows.unflatten(channel, (a["groups"], -1))
    equation = _equation(count, True, "K,windows->result")
    return torch.einsum(equation, _grouped(K.to(wide), a["groups"]), windows).flatten(channel, channel + 1)


def _slope_by_kernel(graph: Graph, node: Node, K: Node, x: Node, g: Node) -> Node:
    """The cotangent of the kernel, for x that it slides over and the cotangent g of what it gives; the other
    way round for the transpose."""
    groups, count = node.attr("groups"), len(node.attr("stride"))
    kernel = extents(K)
    windows = op(graph, "unfold", conj(graph, x), size=kernel[2:], **same(node))
    at, window = _letters(count)
    lead = "ABCDEFGH"[: len(shape_of(x)) - count - 1]
    if groups == 1:
        return op(graph, "einsum", g, windows, equation=f"{lead}o{at},{lead}c{at}{window}->oc{window}")
    first = len(lead)
    g = op(graph, "reshape", g, shape=_opened(extents(g), first, groups))
    windows = op(graph, "reshape", windows, shape=_opened(extents(windows), first, groups))
    equation = f"{lead}go{at},{lead}gc{at}{window}->goc{window}"
    return op(graph, "reshape", op(graph, "einsum", g, windows, equation=equation), shape=kernel)


def _opened(shape: Sequence[int], axis: int, groups: int) -> tuple[int, ...]:
    return (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])


def _convolve_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    K, x = operands
    n = extents(x)[len(shape_of(x)) - len(node.attr("stride")) :]
    back = op(graph, "convolve_back", conj(graph, K), g, shape=n, groups=node.attr("groups"), **same(node))
    return [fit(graph, _slope_by_kernel(graph, node, K, x, g), K), fit(graph, back, x)]


register(
    Op(
        "convolve",
        _convolve_rule,
        _convolve_reference,
        lambda texts, types, a: call("ops.convolve", *texts, geometry(a), str(a["groups"]), _lead(types)),
        _convolve_vjp,
        multilinear=True,
    )
)


def _back_rule(types: Sequence[Type], a: Attributes) -> Type:
    K, y, count = _kernel(types, a)
    at = y.rank - count
    n = dims(a["shape"])
    if y.shape[at - 1] != K.shape[0]:
        raise TypeRuleError(f"{K} turned round takes {K.shape[0]} channels, and this is {y}", [0, 1])
    if places(n, K.shape[2:], a) != y.shape[at:]:
        raise TypeRuleError(f"{y} is not what a convolution of {Tensor('R', n)} gives", [1])
    shape = (*y.shape[: at - 1], K.shape[1] * a["groups"], *n)
    return Tensor(promote([K, y]), shape, common_domain([K, y], "a convolution"), product_unit(K, y))


def _back_reference(K: Any, y: Any, **a: Any) -> Any:
    import torch

    wide, count = torch.promote_types(K.dtype, y.dtype), K.ndim - 2
    channel = y.ndim - count - 1
    equation = _equation(count, True, "K,result->windows")
    y = y.to(wide).unflatten(channel, (a["groups"], -1))
    windows = torch.einsum(equation, _grouped(K.to(wide), a["groups"]), y).flatten(channel, channel + 1)
    return _fold_reference(windows, shape=a["shape"], **{k: a[k] for k in GEOMETRY})


def _back_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    K, y = operands
    ahead = op(graph, "convolve", conj(graph, K), g, groups=node.attr("groups"), **same(node))
    slope = _slope_by_kernel(graph, node, K, conj(graph, g), conj(graph, y))
    return [fit(graph, slope, K), fit(graph, ahead, y)]


register(
    Op(
        "convolve_back",
        _back_rule,
        _back_reference,
        lambda texts, types, a: call(
            "ops.convolve_back", *texts, repr(tuple(a["shape"])), geometry(a), str(a["groups"]), _lead(types)
        ),
        _back_vjp,
        multilinear=True,
    )
)
