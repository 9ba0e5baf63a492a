"""Sweeps over grids against the reference interpreter, for all kinds of axes, ends and orders."""

import pytest
import torch
from ndl.compiler.backends.llvm.sweep_layout import layout_of, rings_of
from ndl.compiler.kernels.ir import Unsupported
from ndl.runtime.kernels.sweeping import Sweeper
from sampled_fields import (
    START,
    TABLEAUX,
    H,
    by_hand,
    coefficients,
    made,
    outside,
    rates,
    squared_laplacian,
    whole,
)

from ndl.host.field_kernels import plan_of


@pytest.mark.parametrize("name", TABLEAUX)
@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize(
    ("shape", "periodic"),
    [
        ((32,), (True,)),
        ((33,), (False,)),
        ((20, 33), (True, True)),
        ((21, 35), (False, True)),
        ((20, 32), (False, False)),
        ((9, 11, 13), (True, False, True)),
    ],
)
def test_steps_are_those_of_the_interpreter(
    shape: tuple[int, ...], periodic: tuple[bool, ...], order: int, name: str
) -> None:
    torch.manual_seed(1)
    function = rates(shape, periodic, order)
    u = torch.rand(2, *shape, dtype=torch.float64)
    weights = {"nu": torch.tensor(0.7), "K": torch.rand(shape, dtype=torch.float64)}
    step = made(function, shape, periodic, name)
    slots, tables = outside(function, step, weights)
    sweeper = Sweeper(plan_of(step.sweeps, 8), whole(u[:, None], shape), coefficients(step, tables))
    sweeper.advance(torch.tensor([[START, H, *slots]], dtype=torch.float64), 5)
    got = sweeper.fields().reshape(u.shape)
    for member in range(2):
        expected = by_hand(function, u[member], weights, name, 5)
        assert float((expected - u[member]).abs().max()) > 1e-2
        torch.testing.assert_close(got[member], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("threads", [1, 3])
def test_lanes_threads_and_passes_change_nothing(lanes: int, threads: int) -> None:
    """Pieces of rows, portions of rows and the steps of a pass only change where a value is computed."""
    torch.manual_seed(2)
    shape, periodic = (40, 27), (True, True)
    function = rates(shape, periodic, 4)
    step = made(function, shape, periodic, "rk4")
    weights = {"nu": torch.tensor(0.7), "K": torch.rand(shape, dtype=torch.float64)}
    slots, tables = outside(function, step, weights)
    u = torch.rand(1, 1, 40, 1, 27, dtype=torch.float64)
    found = []
    for width, many, pieces in ((lanes, threads, [7]), (8, 1, [1] * 7)):
        sweeper = Sweeper(plan_of(step.sweeps, width), u, coefficients(step, tables))
        sweeper.threads = many
        numbers = torch.tensor([[START, H, *slots]], dtype=torch.float64)
        for count in pieces:
            sweeper.advance(numbers, count)
        found.append(sweeper.fields())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-13)


def test_memory_and_text_do_not_grow_with_the_grid() -> None:
    sizes, rings = [], []
    for n in (64, 1024):
        step = made(rates((n, n), (True, True), 2), (n, n), (True, True), "euler").sweeps
        sizes.append(len(plan_of(step, 8).program.text))
        rings.append(rings_of(step))
    assert abs(sizes[0] - sizes[1]) < 0.02 * sizes[0]
    assert rings[0] == rings[1]


def test_a_linear_operator_reads_each_neighbour_once() -> None:
    """Differences of differences are one weighted sum: the square of the Laplacian reads 13 points."""
    shape = (32, 32)
    (stage,) = made(squared_laplacian(shape, True, 2), shape, (True, True), "euler").sweeps.stages
    assert len({r for _, r in stage.reads()}) == 13


def test_a_grid_without_an_inside_is_left_to_torch() -> None:
    with pytest.raises(Unsupported, match="no inside"):
        made(squared_laplacian((7,), False, 4), (7,), (False,), "euler")


def test_layouts_place_each_column_once() -> None:
    for n in (5, 16, 27, 64, 100):
        step = made(rates((20, n), (True, True), 2), (20, n), (True, True), "euler").sweeps
        layout = layout_of(step, 16)
        places = [layout.place(c) for c in range(n)]
        assert len(set(places)) == n
        assert max(places) < layout.row
