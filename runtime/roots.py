"""Zeros of functions of the fraction theta of a step, for many members at once.

A root is *passed* where u goes from > 0 to <= 0. R. P. Brent's idea in T. R. Chandrupatla's form, "A new
hybrid quadratic/bisection algorithm …", Advances in Engineering Software 28 (1997) 145–149.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ndl.runtime.problem import Floats


def first_passage(u: Floats, armed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of samples `u [Q, b]` in order: whether u passes from > 0 to <= 0, and the sample `[b]` at which it
    has. `armed [b]` says whether u was > 0 before the first sample."""
    positive = u > 0
    before = np.concatenate([armed[None], positive[:-1]])
    passed = before & ~positive & ~np.isnan(u)
    return np.asarray(passed.any(axis=0)), np.asarray(passed.argmax(axis=0))


def locate(
    u: Callable[[Floats], Floats], low: Floats, high: Floats, u_low: Floats, u_high: Floats, width: Floats,
    coarse: Floats | float = np.inf,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Brackets `low < high` `[b]` with u(low) > 0 >= u(high), narrowed to at most `width [b]`.

    Brackets wider than `coarse [b]` are halved: where u is as rough as a Brownian path, a point that followed
    from its values would hang on their last digits, and with it which of many roots is found.

    Returns the ends (before, after) of the last bracket. A member whose bracket is narrow enough stays as
    it is, so that each is located as it would be alone.
    """
    # a: the newest point, b: the other end of the bracket, c: the one before the newest
    a, b, fa, fb = high.copy(), low.copy(), u_high.copy(), u_low.copy()
    c, fc = b.copy(), fb.copy()
    share = np.full_like(a, 0.5)
    for _ in range(120):
        open_ = (np.abs(b - a) > width) & (fa != 0)
        if not open_.any():
            break
        point = np.where(open_, a + share * (b - a), a)
        value = np.where(open_, u(point), fa)
        same = (value > 0) == (fa > 0)
        c = np.where(open_, np.where(same, a, b), c)
        fc = np.where(open_, np.where(same, fa, fb), fc)
        b, fb = np.where(open_ & ~same, a, b), np.where(open_ & ~same, fa, fb)
        a, fa = np.where(open_, point, a), np.where(open_, value, fa)
        wide = np.abs(b - a) > coarse
        share = np.where(open_, np.where(wide, 0.5, _share(a, b, c, fa, fb, fc, width)), share)
    # a point where u is exactly 0 is the root, and the end after it
    before = np.where(fa > 0, a, b)
    return before, np.where(fa > 0, b, a)


def _share(a: Floats, b: Floats, c: Floats, fa: Floats, fb: Floats, fc: Floats, width: Floats) -> Floats:
    """Where in the bracket to look next: inverse quadratic interpolation if it is safe, else the middle."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        xi = (a - b) / (c - b)
        phi = (fa - fb) / (fc - fb)
        safe = (phi * phi < xi) & ((1 - phi) ** 2 < 1 - xi)
        quadratic = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        share = np.where(safe & np.isfinite(quadratic), quadratic, 0.5)
        least = 0.5 * width / np.abs(b - a)
    return np.clip(share, np.minimum(least, 0.5), np.maximum(1 - least, 0.5))
