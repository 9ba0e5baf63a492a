"""Operands for every op of the table: a new op needs a line here, and is then tested everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ndl.compiler.geometry import store
from ndl.compiler.geometry.elements import elements
from ndl.compiler.geometry.mesh import Mesh
from ndl.compiler.geometry.surfaces import of_box
from ndl.runtime import meshes, sets
from torch import Tensor

KINDS = {torch.float64: "R", torch.complex128: "C", torch.int64: "Z", torch.bool: "Bool"}


def reals(low: float = -2.0, high: float = 2.0, *shape: int) -> Callable[[torch.Generator], Tensor]:
    return lambda g: low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)


def complexes(*shape: int) -> Callable[[torch.Generator], Tensor]:
    return lambda g: torch.randn(shape, generator=g, dtype=torch.complex128)


def whole(low: int, high: int, *shape: int) -> Callable[[torch.Generator], Tensor]:
    return lambda g: torch.randint(low, high, shape, generator=g)


def truths(*shape: int) -> Callable[[torch.Generator], Tensor]:
    return lambda g: torch.rand(shape, generator=g) > 0.5


def spd(n: int) -> Callable[[torch.Generator], Tensor]:
    """Symmetric, positive definite, well conditioned."""

    def make(g: torch.Generator) -> Tensor:
        a = torch.randn((n, n), generator=g, dtype=torch.float64)
        return a @ a.mT + 2 * torch.eye(n, dtype=torch.float64)

    return make


def near_identity(n: int) -> Callable[[torch.Generator], Tensor]:
    return lambda g: (
        2 * torch.eye(n, dtype=torch.float64) + 0.3 * torch.randn((n, n), generator=g, dtype=torch.float64)
    )


@dataclass(frozen=True)
class Case:
    """`symmetric`: the operand is perturbed symmetrically in difference quotients."""

    op: str
    operands: tuple[Callable[[torch.Generator], Tensor], ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    symmetric: bool = False

    def __str__(self) -> str:
        g = torch.Generator().manual_seed(0)
        shapes = ",".join(KINDS[m(g).dtype] + str(list(m(g).shape)) for m in self.operands)
        return f"{self.op}({shapes}){self.attrs or ''}"


def case(op: str, *operands: Any, symmetric: bool = False, **attrs: Any) -> Case:
    return Case(op, operands, attrs, symmetric)


R = reals()
V = reals(-2, 2, 3)
M = reals(-2, 2, 2, 3)
POSITIVE = reals(0.3, 3.0)
UNIT = reals(-0.8, 0.8)
Z = whole(-5, 6)


def window(stride: Any, dilation: Any, pad: Any) -> dict[str, Any]:
    return {"stride": stride, "dilation": dilation, "pad": pad}


WINDOWS = [(1, 1, (0, 0)), (1, 1, (1, 1)), (2, 1, (1, 0)), (3, 2, (2, 1))]
HALF = window((2,), (1,), ((0, 0),))
FLAT = window((2, 1), (1, 1), ((0, 1), (1, 1)))
SOLID = window((1, 1, 1), (1, 1, 1), ((0, 0), (0, 0), (0, 0)))

NODES, RING, CELLS = ("nodes", 7, 0.5, 2.0), ("ring", 6, -1.0, 2.0), ("cells", 5, 0.0, 2.0)
SECOND = (
    *(("center", (1.0, -2.0, 1.0)), ("high", ((1.5, -2.0),)), ("low", ((-2.0, 2.0),)), ("offset", -1)),
    *(("periodic", False), ("scale", 4.0), ("transposed", False)),
)
BASES = (
    ("stencil", 6, SECOND, (False, True)),
    ("chebyshev", 5, (("chebyshev", 5, -1.0, 0.5), ()), (True, True)),
)
CHEBYSHEV = ("chebyshev", 6, -1.0, 0.5)
WAVES = ((0.3, (0, 0)), (-1.0, (2, 0)), (0.7, (1, 1)), (0.2, (0, 3)))


def difference(axis: int, **more: Any) -> dict[str, Any]:
    """The attributes of a stencil that is not symmetric."""
    found = {"axis": axis, "offset": -1, "center": (0.5, -2.0, 0.0, 1.5), "scale": 0.8}
    return found | {"low": (), "high": (), "periodic": False, "transposed": False} | more


FREE = "free c1f0"


def two_triangles() -> str:
    """The key of elements of order 2 on a square of two triangles, for references and generated code; one
    node of nine is not free."""
    mesh = Mesh(np.array([[0.0, 0], [1, 0], [1.2, 1], [0, 1]]), np.array([[0, 1, 2], [0, 2, 3]]))
    found = elements(mesh, 2)
    store.keep(found)
    meshes.register(found)
    store.ARRAYS[FREE] = np.array([1.0, 1, 1, 0, 1, 1, 1, 1, 1])
    meshes.register_array(FREE, store.ARRAYS[FREE])
    return found.key


def unit_square() -> str:
    """The key of the sides of a square."""
    found = of_box(np.zeros(2), np.ones(2))
    store.SURFACES[found.key] = found
    sets.register_surface(found.key, found)
    return found.key


ENDS = {"low": ((1.0, -2.0, 0.5),), "high": ((0.0, 1.0, -1.0), (0.3, 0.2, 0.1))}

DISC = two_triangles()
SQUARE = unit_square()

CASES: list[Case] = [
    *(case("nearest", reals(-0.7, 1.8, *shape), surface=SQUARE) for shape in ((2,), (3, 2))),
    case("mesh_data", key=FREE, size=9),
    *(
        case("mesh_cardinal", reals(0.1, 0.9, *shape), mesh=DISC, by=by, size=9)
        for shape in ((2,), (3, 2))
        for by in ((), (1,))
    ),
    case("mesh_index", key=FREE, size=9),
    *(
        case(
            "mesh_apply",
            reals(-2, 2, 2, m if back else 9),
            mesh=DISC,
            place=place,
            slope=slope,
            axis=1,
            size=9 if back else m,
            transposed=back,
        )
        for place, m in (("cell", 12), ("facet", 12))
        for slope in (-1, 0, 1)
        for back in (False, True)
    ),
    case("mesh_apply", complexes(9), mesh=DISC, place="cell", slope=1, axis=0, size=12, transposed=False),
    case("mesh_solve", reals(-2, 2, 9, 2), mesh=DISC, free=FREE, axis=0),
    *(case("grid_points", layout=g) for g in (NODES, RING, CELLS, CHEBYSHEV)),
    *(
        case(name, layout=layout, ends=ends, count=count)
        for name in ("eigenbasis", "eigenvalues")
        for layout, ends, count in (
            (RING, ("", ""), 6),
            (("ring", 5, 0.0, 1.0), ("", ""), 5),
            (NODES, ("slope", "slope"), 7),
            (NODES, ("value", "value"), 5),
            (NODES, ("value", "slope"), 6),
            (CELLS, ("slope", "value"), 5),
            (CELLS, ("value", "value"), 5),
            (CHEBYSHEV, ("slope", "slope"), 3),
        )
    ),
    *(case("grid_weights", layout=g, ends=(-0.5, 0.1)) for g in (NODES, CELLS)),
    *(case("grid_weights", layout=g, ends=()) for g in (RING, CHEBYSHEV, ("chebyshev", 7, 0.0, 1.0))),
    *(case("chebyshev", layout=CHEBYSHEV, degree=k, slopes=s) for k in (1, 2) for s in ((), ("low", "high"))),
    *(
        case("stencil", reals(-2, 2, 2, 7), **difference(1, transposed=back, **more))
        for back in (False, True)
        for more in ({"periodic": True}, ENDS)
    ),
    case("stencil", complexes(6, 2), **difference(0, periodic=True)),
    *(case("mask", reals(-2, 2, 4, 3), axis=0, low=low, high=not low) for low in (True, False)),
    *(case("lift", M, axis=1, n=4, side=side, weights=(1.0, -0.5), scale=2.0) for side in ("low", "high")),
    *(
        case("lower", reals(-2, 2, 2, 4, 3), axis=1, n=4, side=side, weights=(1.0, -0.5), scale=2.0)
        for side in ("low", "high")
    ),
    *(
        case("cardinal", reals(0.6, 1.9, *shape), layout=layout, way=way, width=4, degree=degree)
        for shape in ((), (2, 3))
        for degree in (0, 1)
        for layout, way in (
            (NODES, "uniform"),
            (RING, "uniform"),
            (CELLS, "uniform"),
            (RING, "fourier"),
            (("ring", 5, 0.0, 2.0), "fourier"),
            (("chebyshev", 6, 0.5, 2.0), "chebyshev"),
        )
    ),
    *(
        case("modal", reals(-2, 2, *shape), numbers(*modes), axes=axes)
        for numbers in (complexes, lambda *m: reals(-2, 2, *m))
        for shape, modes, axes in (
            ((4, 3), (3,), (0,)),
            ((3, 5), (3, 3), (0, 1)),
            ((4, 6, 2), (4, 4), (0, 1)),
        )
    ),
    *(case("modal_dot", reals(-2, 2, 4, 6, 2), reals(-2, 2, 4, 6, 2), axes=axes) for axes in ((0, 1), (1,))),
    *(
        case("to_waves", reals(-2, 2, *shape), axis=axis, modes=modes, start=start, adjoint=adjoint)
        for shape, axis, modes, start in (
            ((8, 2), 0, (3,), (0.3,)),
            ((2, 7), 1, (2,), (0.0,)),
            ((4, 6, 2), 0, (2, 3), (0.0, -0.5)),  # the longest waves that the points tell apart
            ((5, 4), 0, (3, 3), (0.1, 0.2)),  # more than they tell apart
        )
        for adjoint in (False, True)
    ),
    *(
        case("from_waves", complexes(*c), axis=axis, modes=modes, shape=shape, start=start, adjoint=adjoint)
        for c, axis, modes, shape, start in (
            ((4, 2), 0, (3,), (8,), (0.3,)),
            ((3, 13), 1, (2, 2), (4, 6), (0.0, -0.5)),
            ((25,), 0, (3, 3), (5, 4), (0.1, 0.2)),
        )
        for adjoint in (False, True)
    ),
    case("pair", reals(-2, 2, 3, 2)),
    *(case("symbol", shape=n, lengths=(2.0, 3.0), terms=WAVES) for n in ((4, 6), (5, 3))),
    case("symbol", shape=(4, 5), lengths=(2.0, 3.0), terms=WAVES, whole=True),
    *(case("truncate", reals(-2, 2, n, 5, 2), axes=(0, 1), kept=(1, 2)) for n in (4, 5)),
    case("truncate", complexes(5, 2), axes=(0,), kept=(1,)),
    *(case("axis_spectrum", basis=b) for b in BASES),
    *(
        case("eigenmodes", make(6, 5, 2), make(5, 3), axes=(0, 1), bases=BASES[:2], transposed=turned)
        for turned in (False, True)
        for make in (lambda *s: reals(-2, 2, *s), complexes)
    ),
    case("eigenmodes", reals(-2, 2, 3, 6), reals(-2, 2, 5), axes=(1,), bases=BASES[:1]),
    case("eigenmodes_dot", reals(-2, 2, 6, 5, 2), reals(-2, 2, 6, 5, 2), axes=(0, 1), bases=BASES[:2]),
    *(
        case("multiplier", make(n, 5, 2), axes=(0, 1), lengths=(2.0, 3.0), terms=WAVES)
        for n in (4, 5)
        for make in (lambda *s: reals(-2, 2, *s), complexes)
    ),
    case("const", value=2.5),
    case("const", value=((1, 2), (3, 4))),
    case("const", value=(True, False)),
    case("const", value=1.5 - 2j),
    *(
        case(op, x)
        for op in [
            "exp",
            "sin",
            "cos",
            "tan",
            "sinh",
            "cosh",
            "tanh",
            "sigmoid",
            "relu",
            "gelu",
            "silu",
            "softplus",
            "elu",
            "abs",
            "sign",
            "floor",
        ]
        for x in (R, V)
    ),
    *(
        case(op, complexes(3))
        for op in ["exp", "log", "sqrt", "sin", "cos", "tanh", "neg", "conj", "real", "imag", "abs"]
    ),
    *(
        case(op, x)
        for op in [
            "neg",
            "ceil",
            "round",
            "erf",
            "expm1",
            "isfinite",
            "stop_gradient",
            "real",
            "imag",
            "conj",
        ]
        for x in (R, M)
    ),
    *(
        case(op, x)
        for op in ["log", "sqrt", "lgamma", "digamma", "trigamma", "log1p"]
        for x in (POSITIVE, reals(0.3, 3, 3))
    ),
    *(case(op, x) for op in ["asin", "acos", "atan"] for x in (UNIT, reals(-0.8, 0.8, 2, 3))),
    case("exp", Z),
    case("trigamma", reals(-2.7, -0.3, 3)),
    case("coarse_power", reals(1e-3, 40.0, 2, 3), reals(-2, 2, 2, 3)),
    case("softplus", reals(20.0, 60.0, 3)),
    case("not", truths(3)),
    *(
        case(op, R, R)
        for op in [
            "add",
            "sub",
            "mul",
            "div",
            "maximum",
            "minimum",
            "atan2",
            "floordiv",
            "mod",
            "lt",
            "le",
            "gt",
            "ge",
            "eq",
            "ne",
        ]
    ),
    *(
        case(op, V, V)
        for op in ["add", "sub", "mul", "div", "maximum", "minimum", "atan2", "floordiv", "mod", "lt", "gt"]
    ),
    *(case(op, complexes(3), complexes(3)) for op in ["add", "sub", "mul", "div", "pow", "eq"]),
    *(case(op, V, complexes(3)) for op in ["add", "mul", "div"]),
    *(case(op, Z, Z) for op in ["add", "sub", "mul", "lt", "eq", "maximum"]),
    *(case(op, Z, whole(1, 5)) for op in ["div", "floordiv", "mod"]),
    case("mul", Z, R),
    case("pow", POSITIVE, R),
    case("pow", reals(0.3, 3, 3), V),
    case("and", truths(3), truths(3)),
    case("or", truths(), truths()),
    case("select", truths(3), V, V),
    case("select", truths(), R, R),
    case("expand", R, shape=(3,), axes=()),
    case("expand", V, shape=(2, 3), axes=(1,)),
    case("expand", V, shape=(3, 2), axes=(0,)),
    case("expand", M, shape=(2, 4, 3), axes=(0, 2)),
    case("reshape", M, shape=(3, 2)),
    case("reshape", M, shape=(6,)),
    case("reshape", reals(-1, 1, 6), shape=(2, 3)),
    case("reshape", R, shape=(1, 1)),
    case("permute", M, axes=(1, 0)),
    case("permute", reals(-1, 1, 2, 3, 4), axes=(2, 0, 1)),
    case("permute", reals(-1, 1, 2, 3, 4), axes=(2, 1, 0)),
    case("slice", V, axis=0, start=1, stop=3),
    case("slice", V, axis=0, start=None, stop=-1),
    case("slice", reals(-1, 1, 2, 4), axis=-1, start=-3, stop=None),
    case("slice", reals(-1, 1, 4, 2), axis=0, start=0, stop=2),
    case("index", V, axis=0, at=-1),
    case("index", M, axis=0, at=1),
    case("index", M, axis=1, at=2),
    case("gather", V, whole(0, 3, 5), axis=0),
    case("gather", M, whole(0, 3, 2), axis=1),
    case("gather", M, whole(0, 2), axis=0),
    case("stack", R, R, R, axis=0),
    case("stack", V, V, axis=0),
    case("stack", V, V, axis=1),
    case("stack", M, M, axis=-1),
    case("concat", V, reals(-1, 1, 2), axis=0),
    case("concat", M, reals(-1, 1, 2, 1), axis=1),
    case("matmul", V, V),
    case("matmul", M, V),
    case("matmul", reals(-1, 1, 2), M),
    case("matmul", M, reals(-1, 1, 3, 4)),
    case("matmul", reals(-1, 1, 2, 2, 3), reals(-1, 1, 3, 2)),
    case("matmul", complexes(2, 3), V),
    case("einsum", M, V, equation="ij,j->i"),
    case("einsum", V, reals(-1, 1, 2), equation="i,j->ji"),
    case("einsum", reals(-1, 1, 3, 3), equation="ii->i"),
    case("einsum", reals(-1, 1, 3, 3), equation="ii->"),
    case("einsum", M, M, V, equation="ij,ij,k->k"),
    *(case(op, M, axes=(0,)) for op in ["sum", "prod", "mean", "amax", "amin"]),
    *(case(op, M, axes=(0, 1)) for op in ["sum", "prod", "mean", "amax", "amin"]),
    *(case(op, reals(-1, 1, 2, 3, 2), axes=(1,)) for op in ["sum", "prod", "mean", "amax", "amin"]),
    case("sum", whole(0, 5, 3), axes=(0,)),
    case("mean", whole(0, 5, 3), axes=(0,)),
    case("sum", complexes(3), axes=(0,)),
    case("prod", complexes(3), axes=(0,)),
    *(case(op, truths(2, 3), axes=axes) for op in ("all", "any") for axes in ((1,), (0, 1))),
    *(case(op, M, axis=axis) for op in ["softmax", "cumsum", "argmax", "argmin"] for axis in (0, 1, -1)),
    case("solve", near_identity(3), V),
    case("solve", near_identity(2), M),
    case("inv", near_identity(3)),
    case("det", near_identity(3)),
    case("logdet", near_identity(3)),
    case("diag", V),
    case("expm", reals(-1, 1, 3, 3)),
    case("cholesky", spd(3), symmetric=True),
    case("eigvalsh", spd(3), symmetric=True),
    case("eigvecsh", spd(3), symmetric=True),
    case("symmetric_power", spd(3), reals(0.3, 0.7), symmetric=True),
    *(case("unfold", reals(-1, 1, 2, 7), size=(3,), **window((s,), (d,), (p,))) for s, d, p in WINDOWS),
    case("unfold", reals(-1, 1, 5, 6), size=(2, 3), **window((2, 1), (1, 2), ((0, 1), (2, 0)))),
    case("fold", reals(-1, 1, 2, 5, 3), shape=(7,), **window((1,), (1,), ((0, 0),))),
    case("fold", reals(-1, 1, 3, 4, 2, 3), shape=(5, 6), **window((2, 1), (1, 2), ((0, 1), (2, 0)))),
    *(
        case("convolve", reals(-1, 1, 4, 3, 3), reals(-1, 1, 3, 7), groups=1, **window((s,), (d,), (p,)))
        for s, d, p in WINDOWS
    ),
    case("convolve", reals(-1, 1, 4, 2, 2), reals(-1, 1, 5, 4, 6), groups=2, **window((2,), (1,), ((1, 0),))),
    case("convolve", reals(-1, 1, 2, 1, 2, 3), reals(-1, 1, 1, 4, 5), groups=1, **FLAT),
    case("convolve", reals(-1, 1, 2, 1, 2, 1, 2), reals(-1, 1, 1, 2, 2, 3), groups=1, **SOLID),
    case("convolve", complexes(2, 1, 2), reals(-1, 1, 1, 4), groups=1, **window((1,), (1,), ((0, 0),))),
    *(
        case(
            "convolve_back",
            *(reals(-1, 1, 4, 3, 3), reals(-1, 1, 4, (6 + sum(p) - 2 * d) // s + 1)),
            groups=1,
            shape=(7,),
            **window((s,), (d,), (p,)),
        )
        for s, d, p in WINDOWS
    ),
    case("convolve_back", reals(-1, 1, 4, 1, 2), reals(-1, 1, 4, 3), groups=2, shape=(7,), **HALF),
    case("convolve_back", reals(-1, 1, 2, 1, 2, 3), reals(-1, 1, 2, 2, 5), groups=1, shape=(4, 5), **FLAT),
    case(
        "convolve_back",
        complexes(2, 1, 2),
        reals(-1, 1, 2, 3),
        groups=1,
        shape=(4,),
        **window((1,), (1,), ((0, 0),)),
    ),
]

OUTSIDE = {
    "input",
    "param",
    "path",
    "call",
    "apply",
    "apply_jac",
    "apply_linear",
    "apply_transposed",
    "apply_phi",
    "apply_series",
    "map_function",
    "map_function_along",
    "map_function_back",
    "root",
    "training",
}
OUTSIDE |= {"weak_divergence"}  # gone when a model is lowered
OUTSIDE |= {"batch_mean", "batch_sum", "batch_var", "batch_size"}
"""Ops whose meaning is in their surroundings; they are tested in tests/ir and tests/backends."""
