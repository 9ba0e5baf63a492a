"""Draws of fields by their covariance: against closed forms, the map itself, sums of squares and difference
quotients."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from field_problems import solved
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.ir.grid import wave_count
from ndl.runtime.grids import Layout, grid_points, grid_weights
from ndl.runtime.random_fields import Line, RandomField, places
from ndl.runtime.waves import Ends, eigenbasis, frequencies
from scipy.special import k1
from scipy.stats import chi2

import ndl

VALUE, SLOPE = "value", "slope"
PAIRS = tuple(itertools.product((VALUE, SLOPE), repeat=2))
LAYOUTS = [(("ring", n, 0.0, 2.0), ("", "")) for n in (6, 7)]
LAYOUTS += [((kind, 7, -1.0, 0.5), ends) for kind in ("nodes", "cells") for ends in PAIRS]


def line(layout: Layout, ends: Ends) -> Line:
    return Line(layout, ends, wave_count(layout, ends))


@pytest.mark.parametrize(("layout", "ends"), LAYOUTS)
def test_the_waves_of_even_points_are_orthonormal(layout: Layout, ends: Ends) -> None:
    basis = eigenbasis(layout, ends, wave_count(layout, ends))
    weights = grid_weights(layout, (-0.5,) if layout[0] == "nodes" else ())
    gram = basis.mT @ (weights[:, None] * basis)
    assert torch.allclose(gram, torch.eye(len(gram), dtype=torch.float64), atol=1e-13)
    free = layout[1] - (ends.count(VALUE) if layout[0] == "nodes" else 0)
    assert len(gram) == free


@pytest.mark.parametrize("ends", PAIRS)
def test_waves_vanish_where_they_should(ends: Ends) -> None:
    """By the derivative of the polynomial through Chebyshev points."""
    from ndl.runtime.grids import chebyshev

    layout = ("chebyshev", 30, -1.0, 0.5)
    basis = eigenbasis(layout, ends, 6)
    slope = chebyshev(layout, 1, ()) @ basis
    for at, end in ((0, ends[0]), (-1, ends[1])):
        assert (basis if end == VALUE else slope)[at].abs().max() < 1e-9
    second = chebyshev(layout, 2, ()) @ basis
    assert torch.allclose(second, -(frequencies(layout, ends, 6) ** 2) * basis, atol=1e-6)


@pytest.mark.parametrize("ends", [(SLOPE, SLOPE), (VALUE, VALUE)])
@pytest.mark.parametrize("kind", ["nodes", "cells", "chebyshev"])
def test_the_covariance_of_a_box_is_greens_function(kind: str, ends: Ends) -> None:
    """That of a^2 - d^2/dx^2; the waves that the points cannot tell apart add at most 2/(pi^2 count)."""
    a, n = 3.0, 120
    layout: Layout = (kind, n, 0.0, 1.0)
    field = RandomField((line(layout, ends),), ("^", ("-", ("*", a**2, ("identity",)), ("lap",)), -1.0))
    root = field.made(torch.eye(field.waves[0], dtype=torch.float64))
    x = grid_points(layout)
    low, high = torch.minimum(x[:, None], x), torch.maximum(x[:, None], x)
    shape = torch.cosh if ends == (SLOPE, SLOPE) else torch.sinh
    exact = shape(a * low) * shape(a * (1 - high)) / (a * math.sinh(a))
    # cells with an even last wave: its norm at the points halves one term more
    assert (root.mT @ root - exact).abs().max() < 2.2 / (math.pi**2 * (field.waves[0] - 1))


def test_the_covariance_of_random_ground_is_materns() -> None:
    """That of `std.models.steady.LogNormalDarcy` in the middle of a square: sigma^2 r K1(r), r in lengths.
    The waves that 33 points have leave out 1/(1 + (32 pi length)^2) of the variance, the walls add little."""
    sigma, length, n = 1.3, 0.12, 33
    inner = ("-", ("identity",), ("*", length**2, ("lap",)))
    law = ("*", 4 * math.pi * (sigma * length) ** 2, ("^", inner, -2.0))
    wall = line(("nodes", n, 0.0, 1.0), (SLOPE, SLOPE))
    field = RandomField((wall, wall), law)
    root = field.made(torch.eye(n * n, dtype=torch.float64).reshape(n * n, n, n))
    for steps in (1, 2, 4, 8):
        found = float((root[:, 16, 16] * root[:, 16, 16 + steps]).sum())
        r = steps / 32 / length
        assert found == pytest.approx(sigma**2 * r * float(k1(r)), abs=0.01 * sigma**2), steps
    assert float((root[:, 16, 16] ** 2).sum()) == pytest.approx(sigma**2, rel=0.01)


RING = """
domain Ring = periodic(x in 0..2, y in 0..1)

model M:
    param a = 0.7
    f: R on Ring ~ normal(0, {K})
    state u: R on Ring = 0
    u' = 0*u
    out = f
"""


def drawn(text: str, grid: str, count: int = 1, seed: int = 0) -> Any:
    """A derived quantity `out` at the start of runs."""
    s = solved(text, grid, span="0..1", method="euler(h=1)", save="[0]", ensemble=count, seed=seed)
    return s.out[:, 0]


@pytest.mark.parametrize(
    "K",
    [
        "(a*identity - lap)^-2",
        "exp(0.01*lap)",
        "(-lap)^-1.5",
        "(identity - (q -> dxx(q) + dxy(q) + 0.7*dyy(q)))^-2",
    ],
)
def test_the_square_root_twice_is_the_map(K: str) -> None:
    """The field of each normal alone, from the compiled model; the sum of their squares is K of a unit of
    white noise by `@`, which is worked out by transforms."""
    shape = (8, 5)
    unit = torch.zeros(shape, dtype=torch.float64)
    unit[2, 3] = 40 / 2.0  # one over the area of a cell
    text = RING.format(K=K) + f"    image = {K} @ u\n"
    model = ndl.loads(text, grid=f"fourier{shape}").M(u=unit)
    normals = torch.eye(40, dtype=torch.float64).reshape(40, *shape)
    x, t = model.initial_state(), torch.tensor(0.0, dtype=torch.float64)
    image = model.bind(f=normals[0]).derived("image", t, x)
    root = model.bind(f=normals).derived("out", t, x.expand(40, 40))  # [normal, x, y]
    assert torch.allclose(
        torch.einsum("kxy,k->xy", root, root[:, 2, 3]), image, atol=1e-12 * float(image.detach().abs().max())
    )


def test_the_variances_of_the_modes() -> None:
    """Of 2000 members: sums of squares over what K multiplies by are chi-squared."""
    members = 2000
    out = drawn(RING.format(K="27*(9*identity - lap)^-3"), "fourier(6, 5)", members)
    modes = torch.fft.fft2(out, norm="forward")
    tail = 1e-6
    for k, j in ((0, 0), (1, 0), (0, 2), (2, 1), (1, -2)):
        wave = (2 * math.pi * k / 2) ** 2 + (2 * math.pi * j) ** 2
        power = (modes[:, k, j].abs() ** 2).sum() * 2.0 / (27 * (9 + wave) ** -3)  # the area is 2
        degrees = members * (1 if k == j == 0 else 2)
        low, high = chi2.ppf([tail, 1 - tail], degrees)
        assert low < float(power) * (1 if k == j == 0 else 2) < high, (k, j)
    independent = (modes[:, 1, 0].real * modes[:, 0, 2].real).sum()
    size = (modes[:, 1, 0].real ** 2).sum().sqrt() * (modes[:, 0, 2].real ** 2).sum().sqrt()
    assert abs(float(independent / size)) < 5 / math.sqrt(members)


BOX = """
domain Box = interval(x in 0..2, y in 0..1)

model M:
    state u: R[2] on Box ~ normal(0, (identity - lap)^-2)
    u' = 0*lap(u)
    on left(Box): u = 0
    on right(Box): dn(u) = 0
    on bottom(Box): u = 0
    on top(Box): u = 0
    out = u
"""


@pytest.mark.parametrize(
    ("text", "coarse", "fine", "kept"),
    [
        (RING.format(K="exp(0.01*lap)"), "fourier(7, 5)", "fourier(14, 15)", (3, 2)),
        (BOX, "uniform(7, 5)", "uniform(13, 13)", (5, 3)),
        (BOX, "uniform(6, 4, at=cells)", "uniform(12, 8, at=cells)", (5, 3)),
    ],
)
def test_a_finer_grid_adds_waves(text: str, coarse: str, fine: str, kept: Any) -> None:
    """The same seed has the same coefficients of all waves but the last of the coarser grid."""
    a, b = (drawn(text, grid, 2, seed=5) for grid in (coarse, fine))
    if "Ring" in text:
        lower, finer = (torch.fft.fft2(v, norm="forward") for v in (a, b))
        k, j = kept
        for kx, ky in itertools.product(range(-k, k + 1), range(-j, j + 1)):
            assert torch.allclose(lower[:, kx, ky], finer[:, kx, ky], atol=1e-13)
        return
    projected = []
    for v, grid in ((a, coarse), (b, fine)):
        m = ndl.loads(text, grid=grid).M()
        layouts = m.GRIDS[0].layouts
        bases = [
            eigenbasis(layout, ends, wave_count(layout, ends))[:, :n]
            for layout, ends, n in zip(layouts, ((VALUE, SLOPE), (VALUE, VALUE)), kept)
        ]
        ends_of = [(-0.5,) if layout[0] == "nodes" else () for layout in layouts]
        weighted = [grid_weights(q, e)[:, None] * basis for q, e, basis in zip(layouts, ends_of, bases)]
        projected.append(torch.einsum("mxyc,xj,yk->mjkc", v, *weighted))
    assert torch.allclose(*projected, atol=1e-13) and float(projected[0].abs().max()) > 0.01


def test_components_are_independent_fields() -> None:
    u = drawn(BOX, "uniform(9, 9)", 400)
    product = (u[..., 0] * u[..., 1]).mean((1, 2))
    size = (u[..., 0] ** 2).mean().sqrt() * (u[..., 1] ** 2).mean().sqrt()
    assert abs(float(product.mean() / size)) < 5 * float(product.std() / size) / 20


PATHWISE = """
domain Rod = interval(x in 0..1)

model M:
    param a = 1.5
    param b = 0.8
    param c = 0.3
    k: R on Rod ~ lognormal(b*sin(x), c*(a*identity - lap)^-1)
    state u: R on Rod ~ normal(b, c*exp(0.1*a*lap))
    u' = div(k*grad(u))
    on boundary(Rod): dn(u) = 0
"""


@pytest.mark.parametrize("grid", ["uniform(9)", "chebyshev(9)"])
def test_gradients_by_what_the_law_is_made_of(grid: str) -> None:
    """Against difference quotients at fixed random numbers."""

    def loss(text: str, gradient: str) -> Any:
        s = solved(text, grid, span="0..0.01", method="rk4(h=0.001)", gradient=gradient)
        return (s.final.u**3).sum(), s.model

    value, model = loss(PATHWISE, "discrete")
    weights = dict(model.named_parameters())
    found = torch.autograd.grad(value, [weights[n] for n in "abc"])
    for name, at, g in zip("abc", (1.5, 0.8, 0.3), found):
        e = 1e-4
        ends = [
            float(loss(PATHWISE.replace(f"{name} = {at}", f"{name} = {at + s * e!r}"), "none")[0])
            for s in (1, -1)
        ]
        assert float(g) == pytest.approx((ends[0] - ends[1]) / (2 * e), rel=1e-6), name


FAMILY = """
domain Rod = interval(x in 0..1)

model Heat:
    param k > 0: R on Rod = 1
    state u: R on Rod = sin(pi*x)
    u' = div(k*grad(u))
    on boundary(Rod): u = 0

model Two:
    p = Heat(k ~ lognormal(0, 0.1*(identity - 0.1*lap)^-1))

solve Heat(k ~ lognormal(0, 0.1*(identity - 0.1*lap)^-1)) as sweep:
    span     = 0..0.1
    grid     = uniform(9)
    method   = rk4(h=0.001)
    save     = [0, 0.1]
    ensemble = 4

solve Two as part:
    span     = 0..0.1
    grid     = uniform(9)
    method   = rk4(h=0.001)
    save     = [0, 0.1]
    ensemble = 3
"""


def test_families_of_fields() -> None:
    """Members are told by their number and the name, `k` or `p.k`."""
    sweep = ndl.loads(FAMILY).run("sweep")[0]
    fewer = ndl.loads(FAMILY.replace("ensemble = 4", "ensemble = 2")).run("sweep")[0]
    part = ndl.loads(FAMILY).run("part")[0]
    torch.testing.assert_close(sweep.final.u[:2], fewer.final.u, rtol=1e-14, atol=0)
    covariance = ("*", 0.1, ("^", ("-", ("identity",), ("*", 0.1, ("lap",))), -1.0))
    law = RandomField((line(("nodes", 9, 0.0, 1.0), (SLOPE, SLOPE)),), covariance, log=True)
    numbers = torch.arange(4)
    assert torch.allclose(sweep.model.k, law.at(numbers, stream="k"), atol=1e-14)
    heat = ndl.loads(FAMILY, grid="uniform(9)").Heat(k=law.at(numbers[2], stream="p.k"))
    alone = ndl.solve(heat, span="0..0.1", method="rk4(h=0.001)", save="end")
    assert torch.allclose(alone.final.u, part.final["p.u"][2], atol=1e-12)
    k = sweep.model.k
    assert k.shape == (4, 9) and bool((k > 0).all()) and float(k.std(0).min()) > 1e-3


WEIGHTS = """
domain Rod = interval(x in 0..1)

model M:
    param k > 0: R on Rod ~ lognormal(x, 0.1*(identity - 0.1*lap)^-1)
    const c: R[2] on Rod ~ normal(0, 0.01*(identity - lap)^-2)
    state u: R on Rod = 0
    u' = div(k*grad(u)) + c[0]
    on boundary(Rod): u = 0
    on boundary(Rod): c = 0
"""


def test_weights_that_are_fields() -> None:
    """They are told by the seed of the model; conditions may be of them too."""
    program = ndl.loads(WEIGHTS, grid="uniform(9)")
    a, b, other = program.M(), program.M(), program.M(seed=1)
    assert torch.equal(a.k, b.k) and not torch.equal(a.k, other.k)
    assert torch.equal(a.c, b.c) and not torch.equal(a.c, other.c)
    assert a.c.shape == (9, 2) and float(a.c[[0, -1]].abs().max()) < 1e-15 and bool((a.c[4] != 0).all())


TRAIN = """
domain Rod = interval(x in 0..1)

model Poisson:
    input f: R on Rod
    param s = 0.5
    state u: R on Rod = 0
    0 = s*lap(u) + f
    on boundary(Rod): u = 0
    top = integral(u*f, x in Rod)

train Poisson as fit:
    grid      = uniform(9)
    f: R on Rod ~ normal(x -> x, 9*(identity - lap)^-2)
    method    = direct()
    loss      = (final.top - target)^2
    target    = mean(f^2)
    batch     = 4
    steps     = 2
"""


def test_draws_of_a_training() -> None:
    """They feed the input of their name, and change from step to step."""
    history = ndl.loads(TRAIN).run("fit")[0].history.loss
    assert len(history) >= 2 and float(history[0]) != float(history[1])


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        ("z: R on dual(Rod, 3) ~ normal(0, 1)", r"on the wavenumbers `dual\(Rod, 3\)`"),
        ("z: C on dual(Rod, 3) ~ complex_normal(1)", r"on the wavenumbers `dual\(Rod, 3\)`"),
        ("z: R on Other ~ normal(0, 1)", "`Other` of the draw `z` is not declared"),
    ],
)
def test_draws_of_a_training_that_have_no_points(draw: str, said: str) -> None:
    text = f"""
domain Rod = periodic(x in 0..1)

model Fed:
    input f: R on Rod
    param s = 0.5
    state u: R on Rod = 0
    u' = f

train Fed as fit:
    grid      = fourier(8)
    span      = 0..0.1
    f: R on Rod ~ normal(0, (identity - lap)^-2)
    {draw}
    method    = euler(h=0.1)
    loss      = (s*mean(final.u) - real(sum(z)))^2
    batch     = 2
    steps     = 1
"""
    with pytest.raises(NDLError, match=said) as found:
        ndl.loads(text).run("fit")
    assert found.value.diagnostics[0].code == "NDL585"


@pytest.mark.parametrize(
    ("law", "code"),
    [
        ("z: R ~ normal(0, (identity - lap)^-2)", "NDL585"),
        ("z: R on Ring ~ uniform(0, lap)", "NDL585"),
        ("z: R on Ring ~ normal(0, identity + lap)", "NDL587"),
        ("z: R on Ring ~ normal(0, (identity - (q -> dxx(q)))^-2)", "NDL586"),
    ],
)
def test_what_is_no_random_field(law: str, code: str) -> None:
    text = f"""
domain Ring = periodic(x in 0..1)
model M:
    {law}
    state u: R on Ring = z
    u' = 0*u
"""
    with pytest.raises(NDLError, match=code):
        solved(text, "uniform(8)", method="euler(h=0.5)")


def test_more_waves_than_numbers() -> None:
    from ndl.runtime.errors import SettingError

    assert len(places((5, 4), 2).unique()) == 20
    assert len(places((5, 4, 3), 2).unique()) == 60
    with pytest.raises(SettingError, match="256 waves"):
        places((4, 300, 4), 3)
