"""The lattice of Brownian paths: levels, times near its points, and how many splits steps take."""

import numpy as np
import pytest
from ndl.compiler.kernels import cells, path
from ndl.runtime.kernels import path_program
from ndl.runtime.lattice import HALVINGS, LEAVES, PARTS, SPACING, Places, Unit, Ways, shapes


def test_kernels_have_the_same_numbers():
    assert (cells.HALVINGS, cells.LEAVES) == (HALVINGS, LEAVES)
    assert shapes(np.array([1]), np.array([4])).shape == (1, cells.SHAPE)
    assert (path.NOW, path.NEW) == (path_program.NOW, path_program.NEW)


def test_no_cell_has_two_points_of_a_level():
    """To the first level that has all points before it; from there on cells are halved."""
    points = np.array([0, LEAVES])
    for parts in PARTS:
        spacing = LEAVES // parts
        assert spacing * parts == LEAVES
        new = np.setdiff1d(np.arange(0, LEAVES, spacing), points, assume_unique=True)
        cell = np.searchsorted(points, new)
        assert len(np.unique(cell)) == len(cell), parts
        points = np.insert(points, cell, new)
        if parts > 10_000 and len(points) == parts + 1:
            break
    rest = SPACING[HALVINGS + PARTS.index(parts) :]
    assert (rest[:-1] == 2 * rest[1:]).all()
    assert rest[-1] == 1


@pytest.mark.parametrize("start", [0.0, -1.0, 0.3, 1000.0])
@pytest.mark.parametrize("step", [0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 0.0001, 1 / 64, 1 / 1024])
def test_times_of_a_grid_are_points(start, step):
    k = np.arange(3000)
    places = Places.of(start + k * step, Unit(0), start)
    assert (places.theta == 0).all()
    found = places.root * (LEAVES << HALVINGS) + places.leaf
    wanted = round(start * 10) * (LEAVES // 10) + k * round(step * LEAVES)
    assert (found == wanted).all()


def test_times_of_short_and_long_runs_are_points():
    for span in (2e-6, 3e-4, 2e7, 5e9):
        times = np.arange(1001) * (span / 1000)
        assert (Places.of(times, Unit.of(span), 0.0).theta == 0).all()


def test_a_time_beside_a_point_is_no_point():
    places = Places.of(np.array([0.3 + 1e-12, 0.3 - 1e-12, 0.3]), Unit(0), 0.0)
    assert places.theta[0] > 0
    assert places.theta[1] > 0.9
    assert places.theta[2] == 0
    assert places.leaf[1] + 1 == places.leaf[0] == places.leaf[2]


def test_ways_go_through_the_nearest_points():
    """The cell after each split holds the time, and lies between points; the last one starts there."""
    leaf = np.random.default_rng(0).integers(0, (LEAVES << HALVINGS), 300)
    ways = Ways.to(leaf, np.zeros(300))
    assert (ways.low <= leaf).all()
    assert (leaf < ways.high).all()
    last = np.where(ways.needed, ways.low[1:], 0).max(0)
    assert (last == leaf).all()
    inside = (ways.left > 0) & (ways.right > 0)
    assert inside[ways.needed].all()


@pytest.mark.parametrize(
    ("steps", "most"),
    [
        (10, 1.6),
        (20, 1.3),
        (50, 1.6),
        (100, 1.3),
        (200, 1.4),
        (1000, 1.3),
        (10_000, 1.3),
        (64, 2.6),
        (1024, 2.1),
    ],
)
def test_splits_of_a_step(steps, most):
    """Decimal and binary steps take one or two splits each, forwards and backwards."""
    times = np.arange(steps + 1) / steps
    for order in (times, times[::-1]):
        places = Places.of(order, Unit(0), 0.0)
        made = path_program.program(places, ways=False)
        points = made.whole["unit"] * LEAVES + made.whole["leaf"]
        # beyond what leads to the first and the last time
        assert len(points) <= most * steps + len(SPACING)
        assert len(np.unique(points)) == len(points)
