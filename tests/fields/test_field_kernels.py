"""Solves of fields by sweeps against torch: steps, saved times, families; what is left to torch, and why."""

import pytest
import torch

import ndl

PROGRAM = """
domain Torus = periodic(x in 0..1, y in 0..1)
domain Box = interval(x in 0..1, y in 0..1)
domain Ring = periodic(x in 0..1)
domain Channel = periodic(x in 0..1) * interval(y in 0..1, z in 0..1)

fn agree(a, b) = max(abs(a - b)) < 1e-12

model Burgers:
    const nu = 0.01
    state u: R on Torus = sin(2*pi*x)*cos(2*pi*y)
    state v: R on Torus = cos(2*pi*x)*cos(2*pi*y)
    u' = -u*dx(u) - v*dy(u) + nu*lap(u)
    v' = -u*dx(v) - v*dy(v) + nu*lap(v)

model Held:
    param nu = 0.1
    state u: R on Box = sin(pi*x)*sin(pi*y) + x
    u' = nu*lap(u) + exp(-t)*x*u
    on left(Box): u = 0
    on right(Box): u = 1
    on bottom(Box): dn(u) = 0
    on top(Box): u + dn(u) = x

model Vector:
    state v: R[2] on Torus = [sin(2*pi*x), cos(2*pi*y)]
    v' = 0.01*grad(div(v)) - v*div(v)

model CahnHilliard:
    param k = 1e-4
    state c: R on Ring = 0.1*cos(2*pi*x)
    c' = lap(c^3 - c - k*lap(c))

model Solid:
    state u: R on Channel = sin(2*pi*x)*cos(pi*y)*z
    u' = lap(u)
    on boundary(Channel): dn(u) = 0
"""

CASES = {
    "Burgers": "grid=uniform(20, 24, order=4), span=0..0.0105, method=euler(h=0.001), save=every 0.002",
    "Held": "grid=uniform(21, 17), span=0..0.01, method=rk4(h=0.001), save=[0, 0.004, 0.01]",
    "Vector": "grid=uniform(16, 16), span=0..0.1, method=rk4(steps=10), save=end",
    "CahnHilliard": "grid=uniform(48), span=0..1e-5, method=euler(h=1e-6), save=steps",
    "Solid": "grid=uniform(8, 9, 10), span=0..0.01, method=heun(h=0.001), save=end",
}
TEXTS = "".join(
    f"""
test "{name}":
    a = solve({name}, {how}, backend=torch)
    b = solve({name}, {how}, backend=cpu)
    assert agree(a.{state}, b.{state})
    assert max(abs(a.final.{state})) > 0.01
"""
    for (name, how), state in zip(CASES.items(), ("v", "u", "v", "c", "u"))
)


def test_sweeps_agree_with_torch() -> None:
    results = ndl.loads(PROGRAM + TEXTS).test()
    assert [(r.title, r.message) for r in results] == [(name, "") for name in CASES]


def test_members_have_parameters_of_their_own() -> None:
    how = "Held(nu=[0.05, 0.1, 0.2]), grid=uniform(21, 17), span=0..0.01, method=rk4(h=0.001), save=end"
    text = f"""{PROGRAM}
test "family":
    a = solve({how}, backend=torch)
    b = solve({how}, backend=cpu)
    assert agree(a.final.u, b.final.u)
    assert max(abs(a.final.u[0] - a.final.u[2])) > 0.01
"""
    assert [r.message for r in ndl.loads(text).test()] == [""]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("grid=uniform(16, 16), method=euler()", "estimate its error"),
        ("grid=fourier(16, 16), method=rk4(h=0.001)", "multiplier"),
        ("grid=uniform(16, 16), method=rk4(h=0.001), save=[0.0005]", "inside steps"),
        ("grid=uniform(16, 16), method=rodas5(rtol=1e-6)", "rodas5"),
    ],
)
def test_what_sweeps_do_not_do_is_said(how: str, why: str) -> None:
    text = (
        PROGRAM
        + f"""
test "refused":
    b = solve(Burgers, span=0..0.01, {how}, backend=cpu)
    assert max(b.final.u) < 2
"""
    )
    (result,) = ndl.loads(text).test()
    assert not result.passed
    assert why in result.message


def test_a_field_that_blows_up_is_explained() -> None:
    text = (
        PROGRAM
        + """
test "unstable":
    b = solve(Burgers, grid=uniform(16, 16), span=0..100, method=euler(h=1), backend=cpu, save=end)
    assert max(b.final.u) < 2
"""
    )
    (result,) = ndl.loads(text).test()
    assert not result.passed
    assert "the first value that is not finite" in result.message


def test_threads_share_the_rows() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        results = ndl.loads(PROGRAM + TEXTS).test()
        assert all(r.passed for r in results)
    finally:
        torch.set_num_threads(before)
