"""`python -m benchmarks.circles [--seeds N]`: which flows tell concentric circles apart.

The state of a plain flow in the plane cannot: its paths would have to cross. One with a coordinate more can
(Dupont, Doucet, Teh 2019), and one that the input steers, from a start that all inputs share (Ding, Cui,
Wang, Shi 2023, HomoODE). Ends with 1 where one of these has less than 0.99, or not more than the plain flow.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

HEAD = """
use std.models: HomoODE

model Plain(x: R[2]):
    net f: R[2] -> R[2] = MLP(width=32, depth=1)
    net readout: R[2] -> R[2] = Linear()
    state z: R[2] = x
    z' = f(z)
    logits = readout(z)

model Augmented(x: R[2]):
    net f: R[3] -> R[3] = MLP(width=32, depth=1)
    net readout: R[3] -> R[2] = Linear()
    state z: R[3] = concat(x, [0])
    z' = f(z)
    logits = readout(z)
"""

DATA = """
    label ~ bernoulli(0.5)
    r ~ uniform(0, 0.5)
    a ~ uniform(0, 2*pi)
    x         = [(label + r)*cos(a), (label + r)*sin(a)]
    span      = 0..1
    method    = rk4(steps=16)
    save      = end
    batch     = 128
    steps     = 400
"""

PLAIN = "    loss      = cross_entropy(final.logits, label)\n    optimizer = adam(lr=0.01)\n"
PLAYERS = """    minimize cross_entropy(final.logits, label) wrt all except origin:
        optimizer = adam(lr=0.01)
    minimize norm(origin - stop_gradient(final.z))^2/2 wrt origin:
        optimizer = sgd(lr=0.5)
        every     = 20
"""

TRAININGS = {
    "plain": f"train Plain as plain:{DATA}{PLAIN}",
    "augmented": f"train Augmented as augmented:{DATA}{PLAIN}",
    "homotopy": f"train HomoODE(c=2, d=2, k=2, width=32) as homotopy:{DATA}{PLAYERS}",
}


SEEN = """
model Echo(x: R[2]):
    state e: R[2] = x
    e' = 0*e

const kind: R[2000] ~ bernoulli(0.5), radius: R[2000] ~ uniform(0, 0.5)
const angle: R[2000] ~ uniform(0, 6.2831853)
const P = [[(kind[i] + radius[i])*cos(angle[i]), (kind[i] + radius[i])*sin(angle[i])] for i]

solve Echo(x=P) as points:
    span    = 0..1
    method  = euler(steps=1)

solve NAME.model(x=P) as seen:
    span    = 0..1
    method  = rk4(steps=16)
"""


def accuracy(program: Any, given: dict[str, Any]) -> float:
    """On 2000 points that no training has seen."""
    (points,) = program.run("points", overrides=given)
    (seen,) = program.run("seen", overrides=given)
    kind = points.final["e"].norm(dim=-1) > 0.75
    return float((seen.final["logits"].argmax(-1) == kind.long()).double().mean())


def main() -> None:
    import ndl

    parser = argparse.ArgumentParser(prog="python -m benchmarks.circles", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    missed = 0
    for seed in range(parser.parse_args().seeds):
        found = {}
        for name, text in TRAININGS.items():
            program = ndl.loads(HEAD + "\n" + text + SEEN.replace("NAME", name))
            given = {f"{name}.seed": seed}
            program.run(name, overrides=given)
            found[name] = accuracy(program, given)
        met = min(found["augmented"], found["homotopy"]) >= max(0.99, found["plain"] + 1e-9)
        missed += not met
        shown = "  ".join(f"{name} {value:.4f}" for name, value in found.items())
        print(f"seed {seed}  accuracy: {shown}  {'as required' if met else 'missed'}", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
