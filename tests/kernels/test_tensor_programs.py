"""Programs drawn from a grammar of tensors: kernels against torch, values and gradients."""

from __future__ import annotations

import random
import re

import pytest
from test_tensors import agree, points

import ndl

PROGRAM = """
operator F(t: R, x: R[3]) -> R[3]:
    param W: R[20, 3] ~ normal(0, 0.4), D: R[20, 20] ~ normal(0, 0.1), T: R[20, 3, 2] ~ normal(0, 0.5)
    param b: R[20] ~ normal(0, 0.5), c: R[20] ~ normal(0, 0.5)
    return {}

model M:
    net f: (R, R[3]) -> R[3] = F()
    state x: R[3] = 0.4
    x' = tanh(f(t, x)/5) - x
"""

RULES = {
    "result": [
        "(<vector> @ W)", "(<vector>)[2:5]", "(W.T @ <vector>)", "[sum(<matrix>[:, i]) for i]",
        "(x*sum(<vector>) + mean(<matrix>)*x[0])",
    ],
    "vector": [
        "b", "tanh(W @ x)", "(c + x[0]*b)", "sin(<vector>)", "(<vector> * <vector>)",
        "(<vector> + t*<vector>)", "(D @ <vector>)", "(<vector> @ D)", "<matrix>[:, 1]", "(<matrix> @ x)",
        "[sum(v) for v in <matrix>]",
        "concat((<vector>)[7:], (<vector>)[:7])", "[(<vector>)[i]*(<matrix>)[i, 2] for i]",
        "max(<vector>, 0.3*<vector>)", "softmax(<vector>)", "rms(x)*cumsum(<vector>)",
        "[if v > 0 then v else 0.2*v for v in <vector>]", "(<vector>)/(1 + norm(<vector>))",
        "[max(v) for v in <matrix>]", "(<vector> - mean(<vector>))",
    ],
    "matrix": [
        "W", "outer(b, x)", "sin(<matrix>)", "(<matrix> * <matrix>)", "(<matrix>.T).T", "(D @ <matrix>)",
        "[(<vector>)[i]*x[j] + W[i, j] for i, j]", "T[:, :, 1]", "(<matrix> - <matrix>)",
    ],
}  # fmt: skip


def drawn(what: str, depth: int, dice: random.Random) -> str:
    """An expression of a kind; rules with others inside end at depth 0."""
    text = dice.choice(RULES[what] if depth else [r for r in RULES[what] if "<" not in r])
    return re.sub(r"<(vector|matrix)>", lambda found: drawn(found[1], depth - 1, dice), text)


@pytest.mark.parametrize("seed", range(16))
def test_drawn_programs(seed: int) -> None:
    dice = random.Random(seed)
    program = ndl.loads(PROGRAM.format(drawn("result", 3, dice)))
    method = dice.choice(["rk4(steps=2)", "tsit5(rtol=1e-5)", "heun(steps=3)"])
    agree(program.M(seed=seed), points(5, 3), method)
