"""The order of every operator with every kind of boundary condition, by manufactured solutions.

Steady problems have no error in time, so an operator's own order is seen on few points.
"""

from __future__ import annotations

import pytest
from ndl.compiler.check.values import ModelV

import ndl
from ndl.host.manufactured import STEADY_FLOOR, Study, studies

DOMAINS = """domain Ring = periodic(x in 0..2*pi)
domain Rod = interval(x in 0..2)
domain Plate = interval(x in 0..1, y in 0..2)
domain Torus = periodic(x in 0..1, y in 0..2)
domain Channel = periodic(x in 0..2) * interval(y in 0..1)
domain Box = interval(x in 0..1) * periodic(y in 0..1) * interval(z in 0..1)
"""

ON_THE_RING = {
    "dx": "0 = dx(u) + 2*u",
    "dxx": "0 = dxx(u) - u",
    "dxxx": "0 = dxxx(u) + 3*u",
    "dxxxx": "0 = dxxxx(u) + u",
    "flux": "0 = dx((2 + sin(x))*dx(u)) - u",
    "nonlinear flux": "0 = dx((1 + u^2)*dx(u)) - u",
    "divergence form": "0 = dx(u^2/2) + 2*u - 0.1*dxx(u)",
}

ENDS = {
    "values": "on boundary(Rod): u = 1",
    "slopes": "on boundary(Rod): dn(u) = 0",
    "Robin": "on boundary(Rod): u + 2*dn(u) = x",
    "mixed": "on left(Rod): u = 1\n    on right(Rod): dn(u) = -2*u",
}

ON_THE_ROD = {
    "dxx": "0 = dxx(u) - u",
    "advection": "0 = dxx(u) - 2*dx(u) - u",
    "flux": "0 = dx((1 + x)*dx(u)) - u",
    "nonlinear": "0 = dxx(u) - u^3",
}

IN_MORE_COORDINATES = {
    "lap": ("Plate", "0 = lap(u) - u", "on left(Plate): u = 0\n    on right(Plate): dn(u) = y\n"
            "    on bottom(Plate): u + dn(u) = 0\n    on top(Plate): u = x"),
    "div grad": ("Channel", "0 = div((2 + cos(pi*x)*y)*grad(u)) - u", "on boundary(Channel): dn(u) = 0"),
    "mixed derivative": ("Torus", "0 = lap(u) + 0.5*dxy(u) - u", ""),
    "wind": ("Channel", "0 = lap(u) - dx(u) - x*dy(u) - u", "on boundary(Channel): u = 0"),
}  # fmt: skip


POINTS = {2: (32, 64), 4: (48, 80), 6: (56, 80, 112), 8: (24, 32, 44, 56, 72)}
BELOW = {2: 0.2, 4: 0.4, 6: 0.4, 8: 0.75}
"""How far below its order a difference may stay on these grids. On the finest that rounding leaves to order 8
the rows near the ends still count: the orders there are 7.3 to 8 and rise from grid to grid."""


def study(text: str, grid: str, points: tuple[int, ...], domains: str = DOMAINS, **settings: str) -> Study:
    """The study of the one model of a text."""
    program = ndl.loads(domains + text)
    (model,) = program._model_values().values()
    assert isinstance(model, ModelV)
    (found,) = studies(program, model, [grid], settings, points)
    return found


def model(domain: str, equation: str, conditions: str = "") -> str:
    return f"\nmodel M:\n    state u: R on {domain} = 0\n    {equation}\n    {conditions}\n"


def expect(found: Study, order: int) -> None:
    """The order shows, above what rounding leaves."""
    assert found.trouble is None, str(found.trouble)
    assert found.expected == order and found.observed is not None, found.rows
    assert found.observed > order - BELOW[order], found.rows


@pytest.mark.parametrize("accuracy", [2, 4, 6, 8])
@pytest.mark.parametrize("name", ON_THE_RING)
def test_on_a_ring(name: str, accuracy: int) -> None:
    found = study(model("Ring", ON_THE_RING[name]), f"uniform(n, order={accuracy})", (24, 32))
    expect(found, accuracy)


@pytest.mark.parametrize("accuracy", [2, 4, 6, 8])
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", ON_THE_ROD)
def test_between_ends(name: str, ends: str, accuracy: int) -> None:
    points = POINTS[accuracy]
    found = study(model("Rod", ON_THE_ROD[name], ENDS[ends]), f"uniform(n, order={accuracy})", points)
    expect(found, accuracy)


@pytest.mark.parametrize("accuracy", [2, 4, 6, 8])
@pytest.mark.parametrize("ends", ["values", "slopes"])
@pytest.mark.parametrize("name", ["dxx", "advection", "flux"])
def test_between_ends_in_cells(name: str, ends: str, accuracy: int) -> None:
    points = POINTS[accuracy]
    grid = f"uniform(n, order={accuracy}, at=cells)"
    expect(study(model("Rod", ON_THE_ROD[name], ENDS[ends]), grid, points), accuracy)


@pytest.mark.parametrize(
    ("name", "accuracy"), [(n, p) for n in IN_MORE_COORDINATES for p in (2, 4, 6)] + [("lap", 8)]
)
def test_in_the_plane(name: str, accuracy: int) -> None:
    points = {2: (16, 24), 4: (16, 24), 6: (40, 56), 8: (36, 46)}[accuracy]
    found = study(model(*IN_MORE_COORDINATES[name]), f"uniform(n, order={accuracy})", points)
    expect(found, accuracy)


@pytest.mark.parametrize("accuracy", [2, 4, 6, 8])
def test_values_and_slopes_that_change_in_time(accuracy: int) -> None:
    conditions = "on left(Rod): u = cos(t)\n    on right(Rod): u + dn(u) = t"
    points = {2: (16, 32), 4: (16, 32), 6: (16, 24), 8: (16, 20)}[accuracy]
    found = study(
        model("Rod", "u' = 0.1*dxx(u) - u*dx(u)", conditions), f"uniform(n, order={accuracy})", points
    )
    expect(found, accuracy)


def test_the_floor_is_below_what_orders_are_read_from() -> None:
    found = study(model("Ring", "0 = dxx(u) - u"), "uniform(n, order=8)", (16, 24))
    assert found.rows[-1].largest > 10 * STEADY_FLOOR
