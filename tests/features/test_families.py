"""A member of a family is the run that it would be alone, between steps too."""

from __future__ import annotations

from programs import check

PROGRAM = """
model Vdp:
    param mu = 5.0
    state x = 2.0, y = 0.0
    x' = y
    y' = mu*(1 - x^2)*y - x

fn many(m) = solve(Vdp(mu in [1, 5, 50]), span=0..3, method=m)
fn one(m, mu) = solve(Vdp(mu=mu), span=0..3, method=m)
fn apart(m, k) = abs(many(m).x(1.234)[k] - one(m, [1, 5, 50][k]).x(1.234))

test "members are single runs, between steps too":
    for k in 0..2:
        assert apart(sdirk(rtol=1e-6, atol=1e-8), k) < 1e-9
        assert apart(kvaerno5(rtol=1e-6, atol=1e-8), k) < 1e-9
        assert apart(rodas5(rtol=1e-6, atol=1e-8), k) < 1e-9
"""


def test_continuous_output_of_members() -> None:
    check(PROGRAM)
