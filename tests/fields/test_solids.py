"""Shapes with three coordinates: meshes that fill them, and the order of elements on a ball."""

from __future__ import annotations

import math

import numpy as np
import pytest
from field_problems import order, solved
from ndl.compiler.geometry.loops import ShapeError
from ndl.compiler.geometry.mesh import Mesh, sizes
from ndl.compiler.geometry.solids import solid_mesh


class Level:
    """A shape by the level alone."""

    dimension = 3

    def __init__(self, level: object) -> None:
        self.level = level


def ball(p: np.ndarray) -> np.ndarray:
    return np.asarray((p**2).sum(1) - 1)


def hollow(p: np.ndarray) -> np.ndarray:
    """A cube, off the lattice, without a ball inside."""
    cube = np.abs(p - 0.03).max(1) - 0.7
    return np.asarray(np.maximum(cube, 0.16 - ((p - [0.2, 0.1, 0]) ** 2).sum(1)))


def outer_faces(mesh: Mesh) -> np.ndarray:
    sides = [mesh.cells[:, [i for i in range(4) if i != k]] for k in range(4)]
    faces, count = np.unique(np.sort(np.concatenate(sides), axis=1), axis=0, return_counts=True)
    assert count.max() <= 2
    return np.asarray(faces[count == 1])


@pytest.mark.parametrize("level", [ball, hollow])
def test_a_mesh_conforms_and_its_boundary_is_closed_and_on_the_surface(level: object) -> None:
    mesh = solid_mesh(Level(level), 0.2)  # type: ignore[arg-type]
    assert sizes(mesh).min() > 1e-3 * 0.2**3
    border = outer_faces(mesh)
    assert np.abs(level(mesh.points[np.unique(border)])).max() < 1e-12  # type: ignore[operator]
    edges = np.concatenate([border[:, [0, 1]], border[:, [1, 2]], border[:, [0, 2]]])
    assert not (np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)[1] % 2).any()


def test_the_volume_of_a_ball_is_of_order_two() -> None:
    gaps = [1 - sizes(solid_mesh(Level(ball), h)).sum() / (4 * math.pi / 3) for h in (0.4, 0.2, 0.1)]  # type: ignore[arg-type]
    assert 1.8 < order(gaps) < 2.2, gaps


def test_what_is_too_small_says_so() -> None:
    with pytest.raises(ShapeError, match="smaller than the size"):
        solid_mesh(Level(lambda p: (p**2).sum(1) - 1e-4), 1.0)  # type: ignore[arg-type]


BALL = """
domain Ball = { x, y, z | x^2 + y^2 + z^2 < 1 }
model M:
    state u: R on Ball = 0
    0 = lap(u) + 3*sin(x + y - z) - 2
    on boundary(Ball)CONDITION
    error = sqrt(integral((u - sin(x + y - z) - x^2)^2, [x, y, z] in Ball))
    slopes = sqrt(integral((dx(u) - cos(x + y - z) - 2*x)^2, [x, y, z] in Ball))
"""


def test_a_manufactured_solution_in_a_ball() -> None:
    """u = sin(x + y - z) + x^2, its values given: orders 2 in L2 and 1 in H1."""
    text = BALL.replace("CONDITION", ": u = sin(x + y - z) + x^2")
    runs = [solved(text, f"fem(size={h})", method="cg(tol=1e-10)") for h in (0.3, 0.15)]
    assert 1.8 < order([float(s.final.error) for s in runs]) < 2.3
    assert 0.9 < order([float(s.final.slopes) for s in runs]) < 1.4
    assert float(runs[-1].final.error) < 8e-3


def test_a_slope_on_half_of_a_sphere() -> None:
    """The same with the slope given where z > 0."""
    slope = "cos(x + y - z)*(x + y - z) + 2*x^2"
    two = f" if z <= 0: u = sin(x + y - z) + x^2\n    on boundary(Ball) if z > 0: dn(u) = {slope}"
    text = BALL.replace("CONDITION", two)
    runs = [solved(text, f"fem(size={h})", method="cg(tol=1e-10)") for h in (0.3, 0.15)]
    assert 1.7 < order([float(s.final.error) for s in runs]) < 2.5
