"""`python -m benchmarks.reduced_digits [--seeds N]`: what a neural ODE that reads digits loses by reduction.

x' = tanh(A x + b) on scikit-learn's digits, 64 dimensions, a linear readout; a fifth is held out. Its
reductions by POD and DEIM with as many points as vectors, and by least squares over twice as many, as they
come and after ten epochs of training of their own operators. Ends with 1 where, in the mean over seeds, a
tuned reduction to 16 with as many points loses 2 points or more, or one to 32 with 64 half a point.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

DIGITS = Path(__file__).parents[1] / "examples" / "data" / "digits.npz"
TRAINED = 1437

HEAD = """
model Digits(x0: R[64]):
    param A: R[64, 64] ~ normal(0, 0.05)
    param b: R[64] = 0
    net readout: R[64] -> R[10] = Linear()
    state x: R[64] = x0
    x' = tanh(A @ x + b)
    logits = readout(x)

train Digits as learned:
    data      = table("train.npz")
    span      = 0..1
    method    = rk4(steps=10)
    save      = end
    loss      = cross_entropy(final.logits, data.label)
    optimizer = adam(lr=0.005, decay=1e-3)
    batch     = 64
    epochs    = 20
    seed      = {seed}

solve learned.model(x0=table("train.npz").x0) as full:
    span   = 0..1
    method = rk4(steps=10)
    save   = steps
"""

REDUCED = """
model {name} = reduce(learned.model, pod(rank={rank}), {rule}, snapshots=full)

train {name} as tuned{name}:
    data      = table("train.npz")
    span      = 0..1
    method    = rk4(steps=10)
    save      = end
    loss      = cross_entropy(final.logits, data.label)
    optimizer = adam(lr=0.002, schedule=cosine(1e-5))
    batch     = 64
    epochs    = 10
    seed      = {seed}
"""

SEEN = """
solve {model}(x0=table("test.npz").x0) as {name}:
    span   = 0..1
    method = rk4(steps=10)
    save   = end
"""

RULES = {
    "Deim16": (16, "deim(points=16)"),
    "Gappy16": (16, "gappy(points=32, rank=16)"),
    "Deim32": (32, "deim(points=32)"),
    "Gappy32": (32, "gappy(points=64, rank=32)"),
}


def text(seed: int) -> str:
    """The program of one seed."""
    found = HEAD.format(seed=seed) + SEEN.format(model="learned.model", name="seen")
    for name, (rank, rule) in RULES.items():
        found += REDUCED.format(name=name, rank=rank, rule=rule, seed=seed)
        found += SEEN.format(model=name, name=f"seen{name}")
        found += SEEN.format(model=f"tuned{name}.model", name=f"seen_tuned{name}")
    return found


def losses(seed: int, label: Any) -> dict[str, float]:
    """The share of right answers on what was held out, and points lost by each reduction."""
    import ndl

    program = ndl.loads(text(seed))

    def right(name: str) -> float:
        (s,) = program.run(name)
        return float((s.final["logits"].argmax(-1).numpy() == label).mean())

    program.run("learned")
    program.run("full")
    base = right("seen")
    found = {"full": base}
    for name in RULES:
        found[name] = 100 * (base - right(f"seen{name}"))
        program.run(f"tuned{name}")
        found[f"tuned {name}"] = 100 * (base - right(f"seen_tuned{name}"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reduced_digits", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    digits = np.load(DIGITS)
    x, label = digits["x"], digits["label"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        np.savez("train.npz", x0=x[:TRAINED], label=label[:TRAINED])
        np.savez("test.npz", x0=x[TRAINED:], label=label[TRAINED:])
        found = []
        for seed in range(seeds):
            found.append(losses(seed, label[TRAINED:]))
            print(f"seed {seed}  " + "  ".join(f"{n} {v:.3g}" for n, v in found[-1].items()), flush=True)
    mean = {n: float(np.mean([f[n] for f in found])) for n in found[0]}
    print("mean    " + "  ".join(f"{n} {v:.3g}" for n, v in mean.items()))
    sys.exit(0 if mean["tuned Deim16"] < 2 and mean["tuned Gappy32"] < 0.5 else 1)


if __name__ == "__main__":
    main()
