"""Nearest points of boundaries, points drawn from sets, and walks on spheres, which need both."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ndl.compiler.geometry import store, surfaces
from ndl.runtime import sets as runtime_sets
from ndl.runtime.draws import draw
from programs import check, load, refused

from ndl.host.compiled import register_sets

SHAPES = """
domain Disc = { x, y | x^2 + y^2 < 1 }
domain Oval = { x, y | x^2/4 + y^2 < 1 }
domain L = { x, y | max(abs(x), abs(y)) < 1 and not (x > 0 and y < 0) }
domain Ball = { x, y, z | x^2 + y^2 + z^2 < 4 }
domain Box = interval(x in 0..2, y in 0..1)
domain Rod = interval(x in 0..2)
domain Cube = interval(x in 0..1, y in 0..1, z in 0..1)
"""

DISTANCES = (
    SHAPES
    + """
fn on_oval(s) = [2*cos(s), sin(s)]
fn inwards(s) = [-cos(s), -2*sin(s)]/sqrt(cos(s)^2 + 4*sin(s)^2)

test "of a disc":
    assert abs(distance([0.3, 0.4], boundary(Disc)) - 0.5) < 1e-12
    assert abs(distance([0.0, 0.0], boundary(Disc)) - 1) < 1e-12
    assert abs(distance([1.2, 1.6], boundary(Disc)) - 1) < 1e-12
    assert max(abs(closest([0.3, 0.4], boundary(Disc)) - [0.6, 0.8])) < 1e-12

test "along normals of an ellipse, up to where others are as near":
    for k in 0..11:
        for d in [0.1, 0.3, 0.45]:
            s = 0.3 + 0.5*k
            p = on_oval(s) + d*inwards(s)
            assert abs(distance(p, boundary(Oval)) - d) < 1e-11
            assert max(abs(closest(p, boundary(Oval)) - on_oval(s))) < 1e-10

test "at sides and corners":
    assert abs(distance([0.3, 0.4], boundary(L)) - 0.4) < 1e-12
    assert abs(distance([-0.3, 0.4], boundary(L)) - 0.5) < 1e-12
    assert abs(distance([0.5, 0.4], boundary(Box)) - 0.4) < 1e-12
    assert abs(distance([3.0, 2.0], boundary(Box)) - sqrt(2)) < 1e-12
    assert abs(distance(0.7, boundary(Rod)) - 0.7) < 1e-12
    assert closest(1.2, boundary(Rod)) == 2
    assert abs(distance([0.5, 0.4], left(Box)) - 0.5) < 1e-12
    assert abs(distance([-0.6, 0.0], boundary(Disc) if x > 0) - sqrt(1.36)) < 0.01
    assert abs(distance([0.0, 0.0], [3.0, 4.0]) - 5) < 1e-12

test "in space":
    p = [0.3, 0.4, -1.2]
    assert abs(distance(p, boundary(Ball)) - 0.7) < 1e-11
    assert max(abs(closest(p, boundary(Ball)) - 2/1.3*p)) < 1e-10
    assert abs(distance([0.4, 0.2, 0.5], boundary(Cube)) - 0.2) < 1e-12
    assert abs(distance([2.0, 2.0, 0.5], boundary(Cube)) - sqrt(2)) < 1e-12
"""
)


def test_distances() -> None:
    check(DISTANCES)


def test_facets_of_boundaries_against_the_reference() -> None:
    """The vectorised search for the nearest facet against one facet after the other."""
    from ndl.compiler.ops.table import lookup

    cube = surfaces.of_box(np.zeros(3), np.array([1.0, 2.0, 1.5]))
    square = surfaces.of_box(np.zeros(2), np.ones(2))
    load(SHAPES + "const d = distance([0.1, 0.2], boundary(Oval)) + distance([0.1, 0.2], boundary(L))").test()
    curved = [s for s in store.SURFACES.values() if s.curves is not None and len(s.corners) < 800]
    for one in (cube, square, *curved[-2:]):
        store.SURFACES[one.key] = one
        register_sets()
        p = torch.from_numpy(np.random.default_rng(1).uniform(-0.7, 2.2, (12, one.corners.shape[2])))
        found = runtime_sets.nearest(p, surface=one.key)
        wanted = lookup("nearest").reference(p, surface=one.key)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


WALKS = """
domain Disc = { x, y | x^2 + y^2 < 1 }
domain Ball = { x, y, z | x^2 + y^2 + z^2 < 1 }

model Walk:
    input start: R[2]
    state p: R[2] = start, w = 0
    r = distance(p, boundary(Disc))
    when every 1:
        a ~ uniform(sphere(2))
        q ~ green(2)
        w <- w - r^2/4*16*dot(p + r*q, p + r*q)
        p <- p + r*a
    when falling(r - 1e-3): stop
    q = closest(p, boundary(Disc))
    harmonic = q[0]^2 - q[1]^2 + 0.3*q[0]
    quartic = w + dot(q, q)^2

model Walk3:
    state p: R[3] = [0.2, 0.1, -0.3], w = 0
    r = distance(p, boundary(Ball))
    when every 1:
        a ~ uniform(sphere(3))
        q ~ green(3)
        w <- w - r^2/6*20*dot(p + r*q, p + r*q)
        p <- p + r*a
    when falling(r - 1e-2): stop
    label = w + 1

test "the walk on spheres finds harmonic functions and solutions with a source":
    s = solve(Walk(start=[0.4, 0.3]), span=0..40, method=euler(h=1), ensemble=1500, save=end)
    h, f = s.final.harmonic, s.final.quartic
    assert abs(mean(h) - (0.07 + 0.12)) < 4*std(h)/sqrt(1500) + 2e-3
    assert abs(mean(f) - 0.0625) < 4*std(f)/sqrt(1500) + 2e-3
    assert std(h)/sqrt(1500) < 0.03

test "and in space":
    s = solve(Walk3, span=0..40, method=euler(h=1), ensemble=600, save=end)
    l = s.final.label
    assert abs(mean(l) - 0.14^2) < 4*std(l)/sqrt(600) + 0.02
    assert std(l)/sqrt(600) < 0.04
"""


def test_walks_on_spheres_against_closed_forms() -> None:
    """lap(x^2 - y^2 + 0.3 x) = 0 and lap(r^4) = 16 r^2 in the plane, 20 r^2 in space; the bounds are four
    standard errors, and what a shell of 1e-3 (1e-2) does."""
    check(WALKS)


DRAWN = (
    SHAPES
    + """
model In:
    a ~ uniform(L)
    b ~ uniform(Rod)
    state y = 0
    y' = 0*y
    x = a + 0*y
    z = b + 0*y

test "points of an L":
    s = solve(In, span=0..1, method=euler(h=1), ensemble=4000, save=end, seed=3)
    x, y = s.final.x[:, 0], s.final.x[:, 1]
    assert max(abs(s.final.x)) < 1
    assert max([if x[i] > 0 and y[i] < 0 then 1.0 else 0.0 for i]) == 0
    assert abs(mean(x) - (-1/6)) < 0.04
    assert abs(mean(y) - 1/6) < 0.04
    again = solve(In, span=0..1, method=euler(h=1), ensemble=10, save=end, seed=3)
    assert max(abs(again.final.x - s.final.x[0:10])) == 0
    assert abs(mean(s.final.z) - 1) < 0.04
"""
)


def test_points_drawn_from_sets() -> None:
    check(DRAWN)


TRAINED = """
domain Quarter = { x, y | x^2 + y^2 < 1 and x > 0 and y > 0 }

operator Level(x: R[2]) -> R:
    param a = 0.0
    return a + 0*x[0]

net F: R[2] -> R = Level()

train F:
    x ~ uniform(Quarter)
    loss = (F(x) - x[0])^2
    samples = 400
    batch = 400
    optimizer = lbfgs()
    steps = 20

test "the constant that is nearest to x is its mean, 4/(3 pi)":
    r = train(F)
    assert abs(r.model([0.5, 0.5]) - 4/(3*pi)) < 0.04
"""


def test_training_on_points_of_a_set() -> None:
    check(TRAINED)


def test_rejection_does_not_depend_on_the_batch() -> None:
    ring = surfaces.Region("ring", -np.ones(2), np.ones(2), lambda p: np.abs((p**2).sum(1) - 0.9) < 0.1)
    runtime_sets.register_region("ring", ring, None)
    every = draw("inside", (2,), "ring", seed=1, stream=2, sample=torch.arange(50))
    one = draw("inside", (2,), "ring", seed=1, stream=2, sample=17)
    torch.testing.assert_close(every[17], one, rtol=0, atol=0)
    assert float((every.square().sum(-1) - 0.9).abs().max()) < 0.1


def test_points_of_simplices_are_uniform() -> None:
    """Two triangles, of which one has three quarters of the area."""
    corners = np.array([[[0, 0], [3, 0], [0, 1]], [[0, 0], [0, -1], [-1, 0]]], dtype=float)
    region = surfaces.Region("two", corners.min((0, 1)), corners.max((0, 1)), corners=corners)
    runtime_sets.register_region("two", region, surfaces.volumes(corners))
    x = draw("inside", (2,), "two", seed=1, stream=2, sample=torch.arange(4000))
    upper = x[:, 1] > 0
    assert abs(float(upper.double().mean()) - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 4000)
    middle = x[upper].mean(0)
    torch.testing.assert_close(middle, torch.tensor([1.0, 1 / 3]).double(), rtol=0, atol=0.06)


def test_laws_of_directions_and_of_greens_function() -> None:
    n = 20_000
    for d, moment in ((2, 0.25), (3, 0.3)):
        a = draw("sphere", (d,), d, seed=1, stream=2, sample=torch.arange(n))
        torch.testing.assert_close(a.norm(dim=-1), torch.ones(n).double())
        assert float(a.mean(0).abs().max()) < 4 / math.sqrt(d * n)
        q = draw("green", (d,), d, seed=1, stream=2, sample=torch.arange(n))
        square = q.square().sum(-1)  # E r^2: 1/4 in the plane, 3/10 in space
        assert abs(float(square.mean()) - moment) < 4 * float(square.std()) / math.sqrt(n)
        assert abs(float((q * a).sum(-1).mean())) < 1  # both exist for each sample


GRADIENTS = (
    SHAPES
    + """
model M:
    param a = 0.5, b = 0.3
    state x = 0
    x' = distance([a, b], boundary(Oval)) + closest([a, b], boundary(Oval))[0]*t

fn end(a, b) = solve(M(a=a, b=b), span=0..1, method=rk4(h=0.5)).final.x

test "derivatives by the place":
    g = grad(solve(M, span=0..1, method=rk4(h=0.5)).final.x, M.params)
    assert abs(g[0] - (end(0.501, 0.3) - end(0.499, 0.3))/0.002) < 1e-5
    assert abs(g[1] - (end(0.5, 0.301) - end(0.5, 0.299))/0.002) < 1e-5
"""
)


def test_gradients_by_the_place() -> None:
    check(GRADIENTS)


@pytest.mark.parametrize(
    ("formula", "code"),
    [
        ("distance([0.1, 0.2], Disc)", "NDL595"),
        ("distance([0.1, 0.2, 0.3], boundary(Disc))", "NDL322"),
    ],
)
def test_what_has_no_meaning_says_so(formula: str, code: str) -> None:
    start = "domain Disc = { x, y | x^2 + y^2 < 1 }\n"
    assert code in str(refused(f'{start}test "t":\n    assert {formula} > 0\n'))
