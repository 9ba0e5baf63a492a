"""One table: every operator and every kind of condition on every kind of grid, by manufactured solutions.

`test_orders.py` has all orders of differences; here each kind of grid meets each row once, and the last test
tells that no operator, grid, scheme or condition of the compiler is without a row.
"""

from __future__ import annotations

import pytest
from ndl.compiler.check.missing import ORDERS
from ndl.compiler.ir.grid import SCHEMES
from test_orders import study
from test_schemes import ORDERS as SCHEME_ORDERS

from ndl.host.manufactured import SPECTRAL

OPERATORS = {
    "lap": ("R", "lap(u) - u"),
    "div grad": ("R", "div((2 + u^2)*grad(u)) - u"),
    "dx dy dxx": ("R", "2*dxx(u) + dyy(u) - u*dx(u) + dy(u) - u"),
    "dxy": ("R", "lap(u) + 0.5*dxy(u) - u"),
    "grad div": ("R[2]", "lap(u) + 0.5*grad(div(u)) - u"),
    "curl curl": ("R[2]", "lap(u) - 0.3*curl(curl(u)) - u"),
    "tensor": ("R[2, 2]", "lap(u) + 0.3*grad(div(u)) - u"),
}

CONDITIONS = {
    "values": "on boundary(Plate): u = x",
    "slopes": "on boundary(Plate): dn(u) = y",
    "Robin": "on boundary(Plate): u + 2*dn(u) = 1",
    "by sides": "on left(Plate): u = 0\n    on right(Plate): dn(u) = 1\n"
    "    on bottom(Plate): dn(u) = -u^3\n    on top(Plate): u = x",
    "by parts": "on left(Plate) if y < 0.6: u = 0\n    on left(Plate) if y >= 0.6: dn(u) = 0\n"
    "    on right(Plate): u = 0\n    on bottom(Plate): dn(u) = 0\n    on top(Plate): u + dn(u) = 0",
}

GRIDS = {
    "uniform(n)": ("Plate", (16, 24)),
    "uniform(n, at=cells)": ("Plate", (16, 24)),
    "[uniform(n), chebyshev(12)]": ("Plate", (16, 24)),
    "uniform(n, order=4)": ("Torus", (16, 24)),
    "chebyshev(n)": ("Plate", (18,)),
    "fourier(n)": ("Torus", (18,)),
    "[fourier(n), chebyshev(n)]": ("Channel", (18,)),
    "fem(size=1/n)": ("Plate", (8, 12)),
    "fem(size=2/n, order=2)": ("Plate", (8, 12)),
}
ENDS = {
    "uniform(n, order=4)": (32, 48),
    "uniform(n, order=4, at=cells)": (20, 30),
    "[uniform(n, order=4), chebyshev(12)]": (26, 40),
    "chebyshev(n)": (16,),
    "fem(size=1/n)": (8, 12),
    "fem(size=2/n, order=2)": (8, 12),
}
NOT_LOWERED = {("tensor", "fem(size=1/n)"), ("tensor", "fem(size=2/n, order=2)")}
"""Fields of matrices on meshes."""

DOMAINS = """domain Plate = interval(x in 0..1, y in 0..1.2)
domain Torus = periodic(x in 0..1, y in 0..2)
domain Channel = periodic(x in 0..2) * interval(y in 0..1)
"""


def check(kind: str, right: str, domain: str, conditions: str, grid: str, points: tuple[int, ...]) -> None:
    text = f"\nmodel M:\n    state u: {kind} on {domain} = 0\n    0 = {right}\n    {conditions}\n"
    found = study(text, grid, points, domains=DOMAINS)
    assert found.trouble is None, str(found.trouble)
    if found.expected == 0:
        assert found.rows[-1].largest < SPECTRAL, found.rows
    else:
        assert found.observed is not None and found.observed > found.expected - 0.5, found.rows


@pytest.mark.parametrize(
    ("name", "grid"), [(n, g) for n in OPERATORS for g in GRIDS if (n, g) not in NOT_LOWERED]
)
def test_operators(name: str, grid: str) -> None:
    domain, points = GRIDS[grid]
    ends = "" if domain == "Torus" else f"on boundary({domain}): u = 0"
    check(*OPERATORS[name], domain, ends, grid, points)


@pytest.mark.parametrize("grid", ENDS)
@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions(name: str, grid: str) -> None:
    check("R", "lap(u) - u", "Plate", CONDITIONS[name], grid, ENDS[grid])


@pytest.mark.parametrize(("name", "grid"), sorted(NOT_LOWERED))
def test_what_is_not_lowered_says_so(name: str, grid: str) -> None:
    kind, right = OPERATORS[name]
    text = f"\nmodel M:\n    state u: {kind} on Plate = 0\n    0 = {right}\n    on boundary(Plate): u = 0\n"
    trouble = study(text, grid, (8,), domains=DOMAINS).trouble
    assert trouble is not None and trouble.diagnostics[0].code == "NDL490"


def test_nothing_is_missing() -> None:
    """Every operator has a row, every scheme of `test_schemes.py` an order, every end a condition."""
    rows = " ".join(e for _, e in OPERATORS.values())
    assert all(f"{name}(" in rows for name in ORDERS)
    assert set(SCHEMES) == {"central", *SCHEME_ORDERS}
