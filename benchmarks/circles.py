"""`python -m benchmarks.circles [--seeds N]`: which flows tell concentric circles apart.

The state of a plain flow in the plane cannot: its paths would have to cross. One with a coordinate more can
(Dupont, Doucet, Teh 2019), and one that the input steers, from a start that all inputs share (Ding, Cui,
Wang, Shi 2023, HomoODE). Then evaluations of the field by an adaptive solver for each point: from the start
that was learned, from 0 with the same net, and from 0 with a net that was trained so. Ends with 1 where a
flow that can has less than 0.99, or not more than the plain one, or where the learned start saves nothing.
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
HELD = """    minimize cross_entropy(final.logits, label) wrt all except origin:
        optimizer = adam(lr=0.01)
"""
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
    "held": f"train HomoODE(c=2, d=2, k=2, width=32, origin=[0, 0]) as held:{DATA}{HELD}",
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

COUNTED = """
solve NAME.model(x=P) as counted:
    span    = 0..1
    method  = dopri5(rtol=1e-5, atol=1e-5)
    save    = end

solve NAME.model(x=P, origin=[0, 0]) as counted_from_zero:
    span    = 0..1
    method  = dopri5(rtol=1e-5, atol=1e-5)
    save    = end
"""


def evaluations(program: Any, name: str, given: dict[str, Any]) -> float:
    """The mean over the points."""
    (s,) = program.run(name, overrides=given)
    return float(s.stats.evaluations.double().mean())


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
    missed, counts = 0, []
    for seed in range(parser.parse_args().seeds):
        found, count = {}, {}
        for name, text in TRAININGS.items():
            steered = name in ("homotopy", "held")
            more = SEEN + (COUNTED if steered else "")
            program = ndl.loads(HEAD + "\n" + text + more.replace("NAME", name))
            given = {f"{name}.seed": seed}
            program.run(name, overrides=given)
            found[name] = accuracy(program, given)
            if steered:
                count[name] = evaluations(program, "counted", given)
                count[f"{name} from 0"] = evaluations(program, "counted_from_zero", given)
        counts.append(count)
        met = min(found["augmented"], found["homotopy"]) >= max(0.99, found["plain"] + 1e-9)
        missed += not met
        shown = "  ".join(f"{name} {value:.4f}" for name, value in found.items())
        print(f"seed {seed}  accuracy: {shown}  {'as required' if met else 'missed'}", flush=True)
        print("        evaluations: " + "  ".join(f"{n} {v:.1f}" for n, v in count.items()), flush=True)
    learned, zero = (sum(c[n] for c in counts) for n in ("homotopy", "held"))
    sys.exit(1 if missed or learned > zero else 0)


if __name__ == "__main__":
    main()
