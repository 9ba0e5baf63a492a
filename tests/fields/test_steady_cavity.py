"""The steady lid-driven cavity by stream function and vorticity, against the table of Ghia and others."""

from __future__ import annotations

import pytest

import ndl

# J. Comput. Phys. 48, 387-411, table I, Re = 100: the velocity on the vertical line through the middle
TABLE = {0.9531: 0.68717, 0.8516: 0.23151, 0.7344: 0.00332, 0.6172: -0.13641, 0.5: -0.20581, 0.4531: -0.21090}
TABLE |= {0.2813: -0.15662, 0.1719: -0.10150, 0.1016: -0.06434, 0.0547: -0.03717}

TEXT = """
use std.models: SteadyCavity

solve SteadyCavity as run:
    grid = uniform(33, 33)
    method = newton(tol=1e-8)
    save = end
"""


# the same at Re = 400
FASTER = {0.9766: 0.75837, 0.9531: 0.55892, 0.8516: 0.29093, 0.7344: 0.16256, 0.6172: 0.02135, 0.5: -0.11477}
FASTER |= {0.4531: -0.17119, 0.2813: -0.32726, 0.1719: -0.24299, 0.1016: -0.14612, 0.0547: -0.08186}


def test_a_faster_lid_by_differences_of_order_four() -> None:
    from scipy.interpolate import CubicSpline

    text = TEXT.replace("solve SteadyCavity", "solve SteadyCavity(Re=400)")
    (s,) = ndl.loads(text.replace("33, 33", "41, 41, order=4")).run("run")
    velocity = CubicSpline([k / 40 for k in range(41)], s.final.stream[20].numpy()).derivative()
    for place, value in FASTER.items():
        assert float(velocity(place)) == pytest.approx(value, abs=0.01), place
    assert float(s.final.stream.min()) == pytest.approx(-0.113909, abs=0.002)


def test_velocity_on_the_middle_line() -> None:
    from scipy.interpolate import CubicSpline

    (s,) = ndl.loads(TEXT).run("run")
    places = [k / 32 for k in range(33)]
    velocity = CubicSpline(places, s.final.stream[16].numpy()).derivative()
    for place, value in TABLE.items():
        assert float(velocity(place)) == pytest.approx(value, abs=0.015), place
    assert float(s.final.stream.min()) == pytest.approx(-0.103423, abs=0.004)  # their table III
