"""`python -m benchmarks.penalties [--seeds N] [--only PART …]`: what penalties on the solver save.

Two concentric circles are told apart by x' = f(t, x) in three dimensions; a batch of 128 is one system with
one step size, as in the papers' code (Pal and others 2021, 2023). Ends with 1 when a requirement is not met.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

PROGRAM = """
use std.training: error_of, stiffness_of, local_error, fresh_error

model Circles:
    input X: R[128, 2]
    net f: (R, R[3]) -> R[3] = MLP(width=32, depth=1)
    net readout: R[3] -> R[2] = Linear()
    state u: R[128, 3] = [concat(X[i], [0]) for i]
    u' = [f(t, u[i]) for i]
    logits = [readout(u[i]) for i]

train Circles as run:
    label: R[128] ~ bernoulli(0.5)
    r: R[128] ~ uniform(0, 0.5)
    a: R[128] ~ uniform(0, 2*pi)
    X         = [[(label[i] + r[i])*cos(a[i]), (label[i] + r[i])*sin(a[i])] for i]
    span      = 0..1
    method    = tsit5(rtol=1e-6, atol=1e-6, beta=0)
    DRAW
    loss      = cross_entropy(final.logits, label) + PENALTY
    optimizer = adam(lr=0.01)
    steps     = 300
    precision = float64
    backend   = torch

const kind: R[128] ~ bernoulli(0.5), radius: R[128] ~ uniform(0, 0.5), angle: R[128] ~ uniform(0, 6.2831853)
const P = [[(kind[i] + radius[i])*cos(angle[i]), (kind[i] + radius[i])*sin(angle[i])] for i]

solve run.model(X=P) as seen:
    span    = 0..1
    method  = tsit5(rtol=1e-6, atol=1e-6, beta=0)
    backend = torch
"""


@dataclass(frozen=True)
class Case:
    """A penalty, the draw that it reads, and what is required: evaluations as a share of the plain run's at
    most and `least`, accuracy at least; `fails` wants the accuracy lost instead."""

    name: str
    penalty: str
    draw: str = ""
    share: float | None = None
    least: float = 0.0
    accuracy: float = 0.99
    fails: bool = False


UNBIASED, BIASED = "tau ~ uniform(0, 1)", "tau ~ choice(steps.t)"
CASES = (
    Case("plain", "0"),
    Case("error, 10 to 1", "decay(10, 1)*error_of(steps)", share=0.4),
    Case("error, 0.1", "0.1*error_of(steps)"),
    Case("stiffness, 1", "stiffness_of(steps)", share=0.5, accuracy=0.0),
    Case("error, 100 to 10", "decay(100, 10)*error_of(steps)", fails=True),
    Case("unbiased, 1 to 0.1", "decay(1, 0.1)*local_error(steps, tau)", UNBIASED, share=0.5),
    Case("biased, 1 to 0.1", "decay(1, 0.1)*local_error(steps, tau)", BIASED, share=0.5),
    Case("unbiased, 3 to 0.3", "decay(3, 0.3)*local_error(steps, tau)", UNBIASED, share=0.5),
    Case("biased, 3 to 0.3", "decay(3, 0.3)*local_error(steps, tau)", BIASED, share=0.5),
    Case("fresh step, 10 to 1", "decay(10, 1)*fresh_error(steps, tau)", UNBIASED, least=0.9),
    Case("error, 1000", "1000*error_of(steps)", fails=True),
)


def run(case: Case, seed: int) -> tuple[int, float, float]:
    """Evaluations and accuracy at the end, and the seconds of the training."""
    import ndl

    draw = f"    {case.draw}\n" if case.draw else ""
    program = ndl.loads(PROGRAM.replace("PENALTY", case.penalty).replace("    DRAW\n", draw))
    began = time.perf_counter()
    given = {"run.seed": seed}
    program.run("run", overrides=given)
    seconds = time.perf_counter() - began
    (s,) = program.run("seen", overrides=given)
    kind = s.u.values[0, :, :2].norm(dim=-1) > 0.75
    right = s.final["logits"].argmax(-1) == kind.long()
    return int(s.stats.evaluations), float(right.double().mean()), seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.penalties", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[])
    chosen = parser.parse_args()
    missed = 0
    for seed in range(chosen.seeds):
        plain: tuple[int, float, float] | None = None
        for case in CASES:
            if chosen.only and case.name != "plain" and not any(o in case.name for o in chosen.only):
                continue
            found = run(case, seed)
            plain = plain or found
            verdict = judged(case, found, plain)
            missed += verdict == "missed"
            evaluations, accuracy, seconds = found
            print(f"seed {seed}  {case.name:22} {evaluations:4d} evaluations  accuracy {accuracy:.3f}  "
                  f"{seconds:6.1f} s  {verdict}", flush=True)  # fmt: skip
    sys.exit(1 if missed else 0)


def judged(case: Case, found: tuple[int, float, float], plain: tuple[int, float, float]) -> str:
    """Whether the requirement of a case is met."""
    evaluations, accuracy, _ = found
    if case.fails:
        return "as required" if accuracy < 0.9 else "missed"
    if case.share is None and not case.least:
        return ""
    met = (
        evaluations >= case.least * plain[0]
        and evaluations <= (case.share or 9) * plain[0]
        and accuracy >= case.accuracy
    )
    return "as required" if met else "missed"


if __name__ == "__main__":
    main()
