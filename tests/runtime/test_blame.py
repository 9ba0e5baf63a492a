"""A run that cannot go on names the first expression that is no finite number, wherever it stands."""

from __future__ import annotations

import pytest

import ndl

HEAD = "model Stops:\n"


@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize(
    ("lines", "text", "line"),
    [
        (["state x = 0.5", "x' = log(0.5 - t)*x"], "log(0.5 - t)", 3),
        (["net f: R -> R = MLP(width=4)", "state x = 0.5", "x' = log(0.5 - t)*f(x)"], "log(0.5 - t)", 4),
        (["noise W: wiener", "state x = 0.5", "dx = -x*dt + log(-0.5 - t)*dW"], "log(-0.5 - t)", 4),
        (["noise W: wiener", "state x = 0.5", "dx = log(-0.5 - t)*dt + dW"], "log(-0.5 - t)", 4),
    ],
)
def test_in_nets_drifts_and_diffusions(backend: str, lines: list[str], text: str, line: int) -> None:
    program = ndl.loads(HEAD + "".join(f"    {row}\n" for row in lines))
    with pytest.raises(ndl.RunFailed) as found:
        ndl.solve(program.Stops(seed=1), span=(0, 1), seed=1, backend=backend)
    told = str(found.value)
    assert f"the first value that is not finite is `{text}` = nan, on line {line}" in told
    assert "h = nan" not in told
