"""When jumps come back after delays: sums of delays, found one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ndl.runtime.stepping import echoes
from ndl.runtime.stepping.echoes import Echoes

LAGS = st.sampled_from([0.3, 0.6, 0.45, 1.0, 0.7, float("nan")])


@st.composite
def lags(draw: st.DrawFn) -> np.ndarray:
    """`[D, B]`, nan for a delay that changes."""
    many, members = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    row = st.lists(LAGS, min_size=members, max_size=members)
    return np.array(draw(st.lists(row, min_size=many, max_size=many)))


def sums(own: np.ndarray, depth: int, room: float) -> list[float]:
    chosen = (
        own[list(c)].sum() for n in range(1, depth + 1) for c in itertools.product(range(len(own)), repeat=n)
    )
    return sorted({round(s, 9) for s in chosen if s < room})


@pytest.mark.parametrize("at_once", [1, 4_000_000])
@settings(deadline=None)
@given(lag=lags(), depth=st.integers(1, 4), room=st.floats(0.51, 3.99))
def test_all_short_sums_are_found_once(at_once: int, lag: np.ndarray, depth: int, room: float) -> None:
    room = round(room, 2) + 0.001  # no sum of delays is so near to it that rounding decides
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(echoes, "AT_ONCE", at_once)
        found = Echoes.make(lag, depth, room, 1e-12)
    for member, own in enumerate(lag.T):
        spans, counts = found.of(member)
        assert spans.tolist() == pytest.approx(sums(own, depth, room), abs=1e-9)
        assert counts @ np.nan_to_num(own) == pytest.approx(spans, abs=1e-12)
        assert counts.sum(1).max(initial=0) <= depth
        for k, delay in enumerate(own):
            assert not (np.isnan(delay) or delay in own[:k]) or not counts[:, k].any()
