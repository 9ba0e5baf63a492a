"""Meshes of shapes, and what the runtime makes of their tables, against geometry and dense matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from field_problems import solved
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.geometry import store
from ndl.compiler.geometry.elements import elements
from ndl.compiler.geometry.mesh import Mesh, box, quality, sizes
from ndl.compiler.ops.table import TABLE
from ndl.runtime import meshes

SHAPES = {
    "x^2 + y^2 < 1": (math.pi, 2 * math.pi),
    "0.25 < x^2 + y^2 < 1": (0.75 * math.pi, 3 * math.pi),
    "max(abs(x) - 1, abs(y) - 1) < 0 and not (x > 0 and y > 0)": (3.0, 8.0),
    "(x + 0.5)^2 + y^2 < 1 or (x - 0.5)^2 + y^2 < 1": (4 * math.pi / 3 + math.sqrt(3) / 2, 8 * math.pi / 3),
    "0 < x < 2 and 0 < y < 1 and (x - 1)^2 + (y - 0.5)^2 > 0.04": (2 - 0.04 * math.pi, 6 + 0.4 * math.pi),
    "min(sqrt((x - 2)^2 + y^2) - 0.5, sqrt((x + 2)^2 + y^2) - 0.5) < 0": (math.pi / 2, 2 * math.pi),
}

MEASURE = """
domain S = {{ x, y | {condition} }}
model M:
    state u: R on S = 0
    u' = 0*u
    area = integral(1, [x, y] in S)
    perimeter = integral(1, [x, y] in boundary(S))
"""


def mesh_of(s: object) -> Mesh:
    grid = s.grid  # type: ignore[attr-defined]
    return Mesh(grid.points.numpy(), grid.triangles.numpy())


@pytest.mark.parametrize("condition", SHAPES, ids=list(SHAPES))
def test_area_perimeter_and_quality(condition: str) -> None:
    """Within what chords of length h leave out of circles, pi h^2/6 = 0.0052 of each; triangles are not
    flat."""
    s = solved(MEASURE.format(condition=condition), "fem(size=0.1)", method="rk4(h=0.25)")
    area, perimeter = SHAPES[condition]
    assert abs(float(s.final.area) - area) < 2.2 * math.pi * 0.1**2 / 6
    assert abs(float(s.final.perimeter) - perimeter) < 0.02
    mesh = mesh_of(s)
    assert sizes(mesh).min() > 0 and abs(sizes(mesh).sum() - float(s.final.area)) < 1e-12
    assert quality(mesh).min() > 0.35 and np.median(quality(mesh)) > 0.9


def test_a_straight_shape_is_met_exactly() -> None:
    text = MEASURE.format(condition="0 < x < 1 and 0 < y < 2 and x + y < 2.5")
    s = solved(text, "fem(size=0.2)", method="rk4(h=0.25)")
    assert abs(float(s.final.area) - (2 - 0.125)) < 1e-9


def test_a_side_that_is_told_by_a_small_number_has_no_short_edges() -> None:
    text = """
domain S = { x, y | 0 < x < 1 and 0 < y < 1 }
model M:
    state u: R on S = 0
    0 = lap(u)
    on boundary(S) if y < 1e-6: u = x
    on boundary(S) if not (y < 1e-6): u = x
"""
    s = solved(text, "fem(size=0.2)", method="direct()")
    torch.testing.assert_close(s.final.u, s.grid.x, rtol=0, atol=1e-9)
    mesh = mesh_of(s)
    sides = [mesh.points[mesh.cells[:, i]] - mesh.points[mesh.cells[:, i - 1]] for i in range(3)]
    assert min(np.linalg.norm(side, axis=1).min() for side in sides) > 0.08


def test_shapes_that_cannot_be_meshed() -> None:
    for condition, words in {
        "x > 0": "no end",
        "x^2 + y^2 < -1": "no point",
        "x^2 + y^2 < 1 and x < 2 and 1 > x^2 + y^2 + 0.9999": "smaller",
    }.items():
        with pytest.raises(NDLError) as trouble:
            solved(MEASURE.format(condition=condition), "fem(size=0.5)", method="rk4(h=0.25)")
        (found,) = trouble.value.diagnostics
        assert found.code == "NDL447" and words in found.notes[0], found
        assert found.span.text == "fem(size=0.5)" and found.labels[0].span.text == condition


@pytest.mark.parametrize(
    "domain",
    [
        "{ x, y | x^2 + y^2 < 1 }",
        "{ x, y, z | x^2 + y^2 + z^2 < 1 }",
        "interval(x in 0..1)",
        "{ x | x^2 < 1 }",
    ],
)
@pytest.mark.parametrize("condition", ["u = 0", "u + dn(u) = 0"])
def test_edges_longer_than_the_shape(domain: str, condition: str) -> None:
    text = f"""
domain S = {domain}
model M:
    state u: R on S = 0
    0 = lap(u) + 1
    on boundary(S): {condition}
"""
    with pytest.raises(NDLError) as trouble:
        solved(text, "fem(size=5)", method="direct()")
    (found,) = trouble.value.diagnostics
    assert found.code == "NDL447" and "smaller than the size" in found.notes[0], found


def test_a_mesh_whose_nodes_are_all_given() -> None:
    text = """
domain S = { x, y | x^2 + y^2 < 1 }
model M:
    state u: R on S = 0
    state v: R on S = 0
    0 = lap(u) + 1
    0 = lap(v) + u
    on boundary(S): v + dn(v) = 0
    on boundary(S): u = 0
"""
    with pytest.raises(NDLError) as trouble:
        solved(text, "fem(size=1)", method="direct()")
    (found,) = trouble.value.diagnostics
    assert found.code == "NDL573" and "of `u` to find" in found.message, found
    centre = solved(text, "fem(size=0.05)", method="direct()").final.u.max()
    assert abs(float(centre) - 0.25) < 2e-3  # u = (1 - r^2)/4


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_the_iteration_for_mass_matrices_solves_them(order: int, dimension: int) -> None:
    """Against the dense matrix, on a mesh with stretched cells and with some nodes held."""
    mesh = box([(0.0, 1.0 + k) for k in range(dimension)], 0.5)
    made = elements(mesh, order)
    store.keep(made)
    meshes.register(made)
    free = np.ones(len(made.nodes))
    free[::5] = 0.0
    key = store.named("test free", free)
    meshes.register_array(key, free)
    b = torch.randn(3, len(free), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dense = TABLE["mesh_solve"].reference(b.mT, mesh=made.key, free=key, axis=0).mT
    for found in (
        meshes.chebyshev_iteration(b, made.key, key),
        meshes.mesh_solve(b, -1, mesh=made.key, free=key),
    ):
        torch.testing.assert_close(found, dense, rtol=1e-11, atol=1e-11 * float(dense.abs().max()))


def test_the_mass_matrix_of_nodes_sums_to_the_size() -> None:
    made = elements(box([(0.0, 2.0), (0.0, 3.0)], 0.7), 1)
    assert abs(made.lumped.sum() - 6) < 1e-12 and abs(made.facet.weights.sum() - 10) < 1e-12


GRADIENT = """
domain Disc = {{ x, y | x^2 + y^2 < 1 }}
model M:
    param k: R on Disc = 1 + {b}*x
    param a = {a}
    param c = {c}
    state u: R on Disc = c*(1 - x^2 - y^2)
    {equation}
    on boundary(Disc) if x < 0: u = c*y
    on boundary(Disc) if x >= 0: a*u + dn(u) = c
    goal = integral(u^2, [x, y] in Disc)
"""
REACTION = "div(k*grad(u)) - a*u^3 + c"


@pytest.mark.parametrize(
    ("equation", "grid", "method"),
    [
        (f"u' = {REACTION}", "fem(size=0.5)", "rk4(h=0.01)"),
        (f"u' = {REACTION}", "fem(size=0.5, mass=consistent)", "implicit_euler(h=0.1)"),
        (f"0 = {REACTION}", "fem(size=0.5)", "newton(tol=1e-12)"),
        (f"0 = {REACTION}", "fem(size=0.2)", "newton(tol=1e-12)"),
    ],
)
def test_gradients_against_differences(equation: str, grid: str, method: str) -> None:
    """By a coefficient that is a field, by a number in a condition, and by one in the initial field as
    well."""
    at = {"a": 1.5, "b": 0.3, "c": 0.8}

    def goal(gradient: str = "none", **changed: float) -> torch.Tensor:
        text = GRADIENT.format(equation=equation, **{**at, **changed})
        value: torch.Tensor = solved(text, grid, span="0..0.2", method=method, gradient=gradient).final.goal
        return value

    s = solved(
        GRADIENT.format(equation=equation, **at), grid, span="0..0.2", method=method, gradient="discrete"
    )
    weights = dict(s.model.named_parameters())
    by_k, by_a, by_c = torch.autograd.grad(s.final.goal, [weights["k"], weights["a"], weights["c"]])
    found = {"a": float(by_a), "b": float((by_k * s.grid.x).sum()), "c": float(by_c)}
    e = 1e-4
    for name, g in found.items():
        ends = [float(goal(**{name: at[name] + sign * e}).detach()) for sign in (1, -1)]
        assert g == pytest.approx((ends[0] - ends[1]) / (2 * e), rel=2e-6, abs=1e-8), name
