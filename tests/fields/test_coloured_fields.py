"""Noise on a domain with a covariance map: its waves, its paths, and what it drives, against exact
statements about the stochastic heat equation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from field_problems import solved
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.ir.grid import wave_count
from ndl.runtime.waves import eigenbasis
from scipy.stats import chi2

import ndl

HEAT = """
domain Ring = periodic(x in 0..2)

model M:
    param nu = 0.1
    param s = 0.5
    noise W: wiener(cov=s*(identity - 0.1*lap)^-2) on Ring
    state u: R on Ring = 0
    du = nu*lap(u)*dt + dW
"""

PLANE = """
domain Box = interval(x in 0..1, y in 0..1)

model M:
    noise W: wiener(cov=(identity - 0.1*lap)^-2) on Box
    state u: R on Box = 0
    du = (1 + x)*dW
    on boundary(Box): u = 0
"""


def variance(k: int) -> float:
    """What the covariance of `HEAT` multiplies the waves of k periods by."""
    return 0.5 * (1 + 0.1 * (math.pi * k) ** 2) ** -2


def test_the_diffusion_is_a_root_of_the_covariance() -> None:
    """K of a unit of white noise by `@`, from the modes."""
    text = HEAT + "    image = s*(identity - 0.1*lap)^-2 @ u\n"
    unit = torch.zeros(9, dtype=torch.float64)
    unit[4] = 9 / 2.0
    model = ndl.loads(text, grid="fourier(9)").M(u=unit)
    assert model.NOISE_KIND == "additive"
    x, t = model.initial_state(), torch.tensor(0.0, dtype=torch.float64)
    root = model.diffusion(t, x)
    image = model.derived("image", t, x, {"standard W": torch.zeros(9, dtype=torch.float64)})
    assert torch.allclose(root @ root.mT[:, 4], image, atol=1e-13)


STATIONARY = """
domain S = DOMAIN

model M:
    param nu = 0.3, a = RATE, s = 0.7
    noise W: NOISE on S
    state u: R on S = 0
    du = (nu*lap(u) - a*u)*dt + s*dW
CONDITION
"""


def bridge(x: torch.Tensor) -> torch.Tensor:
    """Of white noise between two ends with the value 0, that of the Brownian bridge; differences of second
    order have this Green's function exactly."""
    return 0.7**2 / (2 * 0.3) * (torch.minimum(x[:, None], x) - x[:, None] * x)


def waves(x: torch.Tensor, colour: float) -> torch.Tensor:
    """On a ring of length 2: each wave of period 2/k has the variance of its noise over twice its rate."""
    total = torch.zeros(len(x), len(x), dtype=x.dtype)
    for k in range(-4, 5):
        w = math.pi * k
        total += torch.cos(w * (x[:, None] - x)) / (1 + colour * w**2) ** 2 / (2 * (0.5 + 0.3 * w**2)) / 2
    return 0.7**2 * total


@pytest.mark.parametrize(
    ("domain", "grid", "noise", "exact"),
    [
        ("interval(x in 0..1)", "uniform(9)", "white", bridge),
        ("interval(x in 0..1)", "uniform(9)", "wiener(cov=identity)", bridge),
        ("periodic(x in 0..2)", "fourier(9)", "white", lambda x: waves(x, 0.0)),
        ("periodic(x in 0..2)", "fourier(9)", "wiener(cov=(identity - 0.1*lap)^-2)", lambda x: waves(x, 0.1)),
    ],
)
def test_the_stationary_covariance_of_the_stochastic_heat_equation(
    domain: str, grid: str, noise: str, exact: Any
) -> None:
    """With A the drift's matrix and B that of the noise the covariance P solves A P + P A' + B B' = 0."""
    ends = domain.startswith("interval")
    words = {"DOMAIN": domain, "NOISE": noise, "RATE": "0" if ends else "0.5"}
    words["CONDITION"] = "    on boundary(S): u = 0" if ends else ""
    text = STATIONARY
    for name, value in words.items():
        text = text.replace(name, value)
    model = ndl.loads(text, grid=grid).M()
    x, t = model.initial_state(), torch.tensor(0.0, dtype=torch.float64)
    A = torch.stack([model.vector_field(t, e) for e in torch.eye(9, dtype=torch.float64)], 1)
    B = model.diffusion(t, x)
    B = torch.diag(B) if B.ndim == 1 else B
    points = torch.arange(9, dtype=torch.float64) * (1 / 8 if ends else 2 / 9)
    P = exact(points)
    inside = slice(1, -1) if ends else slice(None)
    A, B, P = A[inside, inside], B[inside], P[inside, inside]
    assert torch.allclose(A @ P + P @ A.mT, -B @ B.mT, rtol=0, atol=1e-11)
    assert float((B @ B.mT).detach().diagonal().min()) > 0.1


def run(text: str, grid: str, h: float, members: int = 1, span: str = "0..0.1", **more: Any) -> Any:
    chosen = {"method": f"euler_maruyama(h={h})", "save": f"every {h}", "ensemble": members, **more}
    return solved(text, grid, span=span, **chosen)


@pytest.mark.parametrize(("text", "grid"), [(HEAT, "fourier(9)"), (PLANE, "uniform(6, 5)")])
def test_the_noise_on_record_drives_the_field(text: str, grid: str) -> None:
    """Each step adds the increment of the field W that is recorded, pointwise times its coefficient."""
    s = run(text, grid, 0.02)
    if "Ring" in text:
        zero = ndl.loads(text, grid=grid).M()
        t = torch.tensor(0.0, dtype=torch.float64)
        drift = torch.stack([zero.vector_field(t, e) for e in torch.eye(9, dtype=torch.float64)], 1).detach()
        step = s.u[:, :-1] + 0.02 * torch.einsum("ij,mtj->mti", drift, s.u[:, :-1]) + s.W.diff(dim=1)
    else:
        step = s.u[:, :-1] + s.W.diff(dim=1) * (1 + s.grid.x)
        edge = torch.cat([s.W[..., 0, :], s.W[..., -1, :], s.W[..., 0], s.W[..., -1]], -1)
        assert float(edge.abs().max()) < 1e-14  # it takes the conditions of the field that it drives
    assert torch.allclose(s.u[:, 1:], step, atol=1e-13) and float(s.u.abs().max()) > 1e-3


def within(power: torch.Tensor, expected: float, degrees: int) -> bool:
    """Whether a sum of squares of `degrees` normals of a variance is one, but for 2 times in a million."""
    low, high = chi2.ppf([1e-6, 1 - 1e-6], degrees)
    return bool(low < float(power) / expected < high)


def test_increments_have_the_variances_of_the_modes() -> None:
    """c e_k of norm 1 in L2: cosine and sine of each wave are independent Brownian motions of variance
    lambda_k t."""
    s = run(HEAT, "fourier(9)", 0.05, members=400)
    modes = torch.fft.rfft(s.W.diff(dim=1), norm="forward") * math.sqrt(2)  # the length is 2
    count = modes.shape[0] * modes.shape[1]
    for k in range(4):
        power = (modes[..., k].abs() ** 2).sum() * (1 if k == 0 else 2)
        assert within(power, 0.05 * variance(k), count * (1 if k == 0 else 2)), k


def test_the_modes_of_the_stochastic_heat_equation() -> None:
    """Ornstein and Uhlenbeck's processes: the variance at t is lambda (1 - exp(-2 nu w^2 t))/(2 nu w^2); that
    of the recursion of Euler and Maruyama is known exactly too, and within 5 percent of it."""
    h, steps, members = 0.02, 50, 1000
    s = run(HEAT, "fourier(9)", h, members, span="0..1", save="end")
    modes = torch.fft.rfft(s.final.u, norm="forward") * math.sqrt(2)
    for k in range(1, 4):
        rate = 0.1 * (math.pi * k) ** 2
        factor = (1 - rate * h) ** 2
        expected = variance(k) * h * (1 - factor**steps) / (1 - factor)
        exact = variance(k) * (1 - math.exp(-2 * rate * 1)) / (2 * rate)
        assert expected == pytest.approx(exact, rel=0.1)
        assert within((modes[:, k].abs() ** 2).sum() * 2, expected, 2 * members), k


@pytest.mark.parametrize(
    ("text", "coarse", "fine", "kept"),
    [(HEAT, "fourier(7)", "fourier(16)", (7,)), (PLANE, "uniform(6, 5)", "uniform(11, 9)", (3, 2))],
)
def test_a_finer_grid_has_the_same_path_of_the_lower_waves(
    text: str, coarse: str, fine: str, kept: tuple[int, ...]
) -> None:
    found = []
    for grid in (coarse, fine):
        s = run(text, grid, 0.05)
        layouts = s.model.GRIDS[0].layouts
        v = s.W[0, -1]
        for layout, n in zip(layouts, kept):
            ends = ("", "") if "Ring" in text else ("value", "value")
            basis = eigenbasis(layout, ends, wave_count(layout, ends))[:, :n]
            weight = (layout[3] - layout[2]) / (layout[1] - (0 if "Ring" in text else 1))
            v = torch.tensordot(v, weight * basis, dims=([0], [0]))  # the next axis comes to the front
        found.append(v)
    assert torch.allclose(*found, atol=1e-13) and float(found[0].abs().max()) > 1e-3


def test_gradients_by_the_covariance() -> None:
    """At a fixed path, with a coefficient that reads the field."""
    text = HEAT.replace("dt + dW", "dt + (1 + u^2)*dW")

    def loss(nu: float, s_: float, gradient: str) -> Any:
        changed = text.replace("nu = 0.1", f"nu = {nu!r}").replace("s = 0.5", f"s = {s_!r}")
        s = run(changed, "fourier(5)", 0.02, save="end", gradient=gradient)
        return (s.final.u**2).sum(), s.model

    value, model = loss(0.1, 0.5, "discrete")
    weights = dict(model.named_parameters())
    found = torch.autograd.grad(value, [weights["nu"], weights["s"]])
    e = 1e-5
    for k, g in enumerate(found):
        ends = [float(loss(0.1 + d * (k == 0), 0.5 + d * (k == 1), "none")[0]) for d in (e, -e)]
        assert float(g) == pytest.approx((ends[0] - ends[1]) / (2 * e), rel=1e-6)


def test_white_noise_is_that_of_the_identity_in_law() -> None:
    """White noise has the variance of `cov = identity` at every point, one over the size of its cell."""
    white = HEAT.replace("wiener(cov=s*(identity - 0.1*lap)^-2) on Ring", "white on Ring")
    waves = HEAT.replace("s*(identity - 0.1*lap)^-2", "identity")
    t, x = torch.tensor(0.0, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
    a, b = (ndl.loads(text, grid="fourier(9)").M() for text in (white, waves))
    first, second = (m.diffusion(t, x) @ m.diffusion(t, x).mT for m in (a, b))
    assert torch.allclose(first, second, atol=1e-12) and float(first[0, 0]) == pytest.approx(9 / 2)


@pytest.mark.parametrize(
    ("noise", "code"),
    [
        ("wiener on Ring", "NDL416"),
        ("white(cov=identity) on Ring", "NDL416"),
        ("wiener(cov=[1.0, 2.0]) on Ring", "NDL588"),
        ("wiener(cov=identity - lap)", "NDL588"),
        ("wiener(cov=identity + lap) on Ring", "NDL587"),
    ],
)
def test_what_is_no_noise_on_a_domain(noise: str, code: str) -> None:
    text = HEAT.replace("wiener(cov=s*(identity - 0.1*lap)^-2) on Ring", noise)
    with pytest.raises(NDLError, match=code):
        run(text, "fourier(9)", 0.05)


def test_two_noises_in_one_equation() -> None:
    """A white one beside one with a covariance: their squares are added."""
    text = HEAT.replace("dt + dW", "dt + dW + 2*dV").replace(
        "    state", "    noise V: white on Ring\n    state"
    )
    model = ndl.loads(text, grid="fourier(9)").M()
    t, x = torch.tensor(0.0, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
    root = model.diffusion(t, x)
    assert root.shape == (9, 18)
    own = ndl.loads(HEAT, grid="fourier(9)").M().diffusion(t, x)
    white = 4 * 9 / 2.0 * torch.eye(9, dtype=torch.float64)
    assert torch.allclose(root @ root.mT, own @ own.mT + white, atol=1e-12)
