"""`python -m benchmarks.paths_gan [--steps N] [--seed S]`: an SDE-GAN with the numbers of Kidger's example.

Paths of dY = (0.02 t - 0.1 Y) dt + 0.4 (2 t/64) dW at 64 times, 30 % of their values left out; batches of
1024, 10 000 steps. That is hours on two cores. Prints distances to paths that no training has seen, of
trained and untrained generators, and ends with 1 where training has not come nearer.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

PROGRAM = """
use std.models: Generator, Critic

model Widening:
    noise W: wiener
    start: R ~ uniform(-1, 1)
    state u = start
    du = (0.02*t - 0.1*u)*dt + 0.4*(2*t/64)*dW
    y = [u]

solve Widening as records:
    span     = 0..63
    method   = euler_maruyama(h=0.1)
    save     = every 1
    ensemble = 8192
    seed     = 3

train Generator(d=16, w=3, k=1), Critic(c=2, d=16) as gan:
    data     = records
    keep: R[64, 1] ~ bernoulli(0.7)
    seen     = if keep > 0.5 then data.y else nan
    method   = reversible_heun(h=1)
    gradient = reversible
    time     = [data.t]
    made     = linear(data.t, concat(time, y.T).T)
    given    = linear(data.t, concat(time, seen.T).T)
    fake     = solve(Critic(Y=made), span=0..63, method=heun(h=1)).final.score
    real     = solve(Critic(Y=given), span=0..63, method=heun(h=1)).final.score
    minimize fake wrt Generator:
        optimizer = adadelta(lr=2e-4, decay=0.01)
    maximize fake - real wrt Critic:
        optimizer = adadelta(lr=1e-3, decay=0.01)
        project   = clip(1/out)
    average  = swa(start=0.5)
    batch    = 1024
    steps    = {steps}
    seed     = {seed}

solve Widening as fresh:
    span     = 0..63
    method   = euler_maruyama(h=0.1)
    save     = every 1
    ensemble = 1024
    seed     = 11

solve gan.model as samples:
    span     = 0..63
    method   = reversible_heun(h=1)
    save     = every 1
    ensemble = 1024
    seed     = 5

solve Generator(d=16, w=3, k=1, seed={seed}) as untrained:
    span     = 0..63
    method   = reversible_heun(h=1)
    save     = every 1
    ensemble = 1024
    seed     = 5
"""

Array = np.ndarray[Any, Any]


def marginal(a: Array, b: Array) -> float:
    """W1 of the laws at a time, the mean over times; `a`, `b` are `[paths, times]` of as many paths."""
    return float(np.abs(np.sort(a, 0) - np.sort(b, 0)).mean())


def discrepancy(a: Array, b: Array) -> float:
    """The squared maximum mean discrepancy of whole paths, by Gaussian kernels of three widths."""

    def gaps(x: Array, y: Array) -> Array:
        return np.asarray((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T)

    scale = float(np.median(gaps(a, b)))

    def mean(x: Array, y: Array) -> float:
        return float(np.mean([np.exp(-gaps(x, y) / (scale * w)).mean() for w in (0.25, 1, 4)]))

    return mean(a, a) + mean(b, b) - 2 * mean(a, b)


def main() -> None:
    import ndl

    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths_gan", description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    program = ndl.loads(PROGRAM.format(steps=chosen.steps, seed=chosen.seed))
    began = time.process_time()
    program.run("records")
    program.run("gan")
    print(f"{chosen.steps} steps: {time.process_time() - began:.0f} s of processor time")
    paths = {}
    for name in ("records", "fresh", "samples", "untrained"):
        (s,) = program.run(name)
        paths[name] = s["y"].values.detach().double().numpy()[:1024, :, 0]
    found = {}
    for name in ("records", "samples", "untrained"):
        found[name] = marginal(paths[name], paths["fresh"])
        print(f"{name:10} W1 {found[name]:.3f}  MMD² {discrepancy(paths[name], paths['fresh']):.4f}")
    sys.exit(0 if found["samples"] < found["untrained"] else 1)


if __name__ == "__main__":
    main()
