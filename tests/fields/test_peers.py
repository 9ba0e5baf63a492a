"""The same set-ups by programs written for these tests: an exponential integrator, loops of differences."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from field_problems import solved

Array = npt.NDArray[np.float64]


def etdrk4(u: Array, length: float, h: float, steps: int) -> Array:
    """Kuramoto–Sivashinsky u' = -u ux - uxx - uxxxx by Cox and Matthews' method, its functions by means over
    circles in the complex plane (Kassam and Trefethen, SIAM J. Sci. Comput. 26, 2005)."""
    n = len(u)
    k = 2 * np.pi / length * np.fft.rfftfreq(n, 1 / n)
    linear = k**2 - k**4
    odd = 1j * k
    odd[-1] = 0  # the highest mode has no slope
    r = np.exp(1j * np.pi * (np.arange(1, 33) - 0.5) / 32)
    z = h * linear[:, None] + r[None, :]
    mean = lambda f: h * f.mean(axis=1).real  # noqa: E731
    e, half = np.exp(h * linear), np.exp(h * linear / 2)
    q = mean((np.exp(z / 2) - 1) / z)
    f1 = mean((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3)
    f2 = mean((2 + z + np.exp(z) * (z - 2)) / z**3)
    f3 = mean((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3)

    def rest(v: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
        w = np.fft.irfft(v, n)
        found: npt.NDArray[np.complex128] = -np.fft.rfft(w * np.fft.irfft(odd * v, n))
        return found

    v = np.fft.rfft(u)
    for _ in range(steps):
        nv = rest(v)
        a = half * v + q * nv
        na = rest(a)
        b = half * v + q * na
        nb = rest(b)
        c = half * a + q * (2 * nb - nv)
        v = e * v + nv * f1 + 2 * (na + nb) * f2 + rest(c) * f3
    found: Array = np.fft.irfft(v, n)
    return found


def test_kuramoto_sivashinsky_by_an_exponential_integrator() -> None:
    text = """domain Ring = periodic(x in 0..32*pi)

model M:
    state u: R on Ring = cos(x/16)*(1 + sin(x/16))
    u' = -u*dx(u) - dxx(u) - dxxxx(u)
"""
    s = solved(text, "fourier(128)", span="0..20", method="etdrk4(h=0.05)")
    x = s.grid.x.numpy()
    mine = etdrk4(np.cos(x / 16) * (1 + np.sin(x / 16)), 32 * np.pi, 0.05, 400)
    assert np.abs(mine).max() > 1
    assert np.abs(s.final.u.numpy() - mine).max() < 1e-9


def laplacian(u: Array, h: float) -> Array:
    """By the five neighbours on a torus."""
    found: Array = (
        np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 1, 1) + np.roll(u, -1, 1) - 4 * u
    ) / h**2
    return found


GRAY_SCOTT = """domain Torus = periodic(x in 0..1, y in 0..1)

model M:
    state u: R on Torus = 1 - 0.5*exp(-100*((x - 0.5)^2 + (y - 0.4)^2))
    state v: R on Torus = 0.25*exp(-100*((x - 0.5)^2 + (y - 0.4)^2))
    u' = 2e-5*lap(u) - u*v^2 + 0.04*(1 - u)
    v' = 1e-5*lap(v) + u*v^2 - 0.1*v
"""


def start(n: int) -> tuple[Array, Array]:
    x = np.arange(n) / n
    bump = np.exp(-100 * ((x[:, None] - 0.5) ** 2 + (x[None, :] - 0.4) ** 2))
    return 1 - 0.5 * bump, 0.25 * bump


def test_gray_scott_by_a_loop() -> None:
    """Euler's steps over the same differences: agreement to rounding."""
    n, h = 24, 0.5
    u, v = start(n)
    for _ in range(100):
        react = u * v**2
        u, v = (
            u + h * (2e-5 * laplacian(u, 1 / n) - react + 0.04 * (1 - u)),
            v + h * (1e-5 * laplacian(v, 1 / n) + react - 0.1 * v),
        )
    s = solved(GRAY_SCOTT, f"uniform({n}, {n})", span="0..50", method=f"euler(h={h})")
    assert np.abs(u - 1).max() > 0.1
    np.testing.assert_allclose(s.final.u.numpy(), u, rtol=0, atol=1e-12)
    np.testing.assert_allclose(s.final.v.numpy(), v, rtol=0, atol=1e-12)


def test_a_wave_by_leapfrog() -> None:
    """Three time levels (Courant, Friedrichs and Lewy) against Verlet's steps: the same values."""
    n, h, c = 40, 0.01, 1.3
    x = np.linspace(0, 1, n + 1)
    u = np.exp(-50 * (x - 0.4) ** 2)
    u[[0, -1]] = 0
    r = (c * h * n) ** 2
    second = lambda w: np.pad(w[2:] - 2 * w[1:-1] + w[:-2], 1)  # noqa: E731
    before, now = u, u + r / 2 * second(u)
    for _ in range(79):
        before, now = now, 2 * now - before + r * second(now)
    text = f"""domain Rod = interval(x in 0..1)

model M:
    state u: R on Rod = exp(-50*(x - 0.4)^2)
    state u' = 0
    u'' = {c}^2*lap(u)
    on boundary(Rod): u = 0
"""
    s = solved(text, f"uniform({n + 1})", span="0..0.8", method=f"verlet(h={h})")
    np.testing.assert_allclose(s.final.u.numpy(), now, rtol=0, atol=1e-11)
