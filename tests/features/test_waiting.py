"""What this version cannot run is refused by name, at its place."""

from __future__ import annotations

import pytest
from programs import refused

RUN = '\n    state x: R[2] = 1\n    x\' = f(x)\n\ntest "t":\n    s = solve(M, span=0..1, method=rk4(h=0.1))\n'
OWN = "operator A(x: R[c]) -> R[c]:\n    {0}\n    return x\n\n"


@pytest.mark.parametrize(
    "line", ["param w: R[c] = 1 per sample", "state m: R[c] = 0 per sample", "z ~ normal(0, 1) per step"]
)
def test_in_an_operator(line: str) -> None:
    found = refused(OWN.format(line) + "model M:\n    net f: R[2] -> R[2] = A()" + RUN)
    assert found.code == "NDL490" and found.span.text in line
