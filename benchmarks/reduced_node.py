"""`python -m benchmarks.reduced_node [--picture FILE]`: speed against accuracy of examples/reduced_node.ndl.

The trained net of the example and its reductions of several ranks, and truncations, on 1000 new bumps each:
the time of a run, the least of several taken in turn, and the relative error at the end.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "reduced_node.ndl"
RANKS = (2, 4, 8, 12, 16, 24)
COUNT, TURNS = 1000, 5


BLOCK = """
solve {model}(a=many_a, c=many_c) as {name}:
    span     = 0..1
    method   = rk4(h=0.02)
    save     = end
    ensemble = {count}
"""


def blocks() -> dict[str, str]:
    """The application that each run solves."""
    found = {"Whole": "learned.model"}
    for k in RANKS:
        found[f"Pod{k}"] = f"reduce(learned.model, pod(rank={k}), deim(points={k + 4}), snapshots=full)"
        found[f"Svd{k}"] = f"truncate(learned.model, rank={k})"
    return found


def program_text() -> str:
    """The example up to its reductions, and a run of each size."""
    text = EXAMPLE.read_text(encoding="utf-8").partition("model Small")[0]
    text += f"const many_a: R[{COUNT}] ~ uniform(0.5, 1.5), many_c: R[{COUNT}] ~ uniform(0.3, 0.7)\n"
    for name, model in blocks().items():
        if name != "Whole":
            text += f"\nmodel M{name} = {model}\n"
        text += BLOCK.format(model="learned.model" if name == "Whole" else f"M{name}", name=name, count=COUNT)
    return text


def measured() -> dict[str, tuple[float, float]]:
    """Milliseconds and relative error by model."""
    import ndl

    program = ndl.loads(program_text())
    for block in ("data", "learned", "full"):
        program.run(block)
    names = list(blocks())
    ends, times = {}, dict.fromkeys(names, float("inf"))
    for turn in range(TURNS + 1):
        for n in names:
            began = time.perf_counter()
            (s,) = program.run(n)
            if turn:  # the first compiles
                times[n] = min(times[n], time.perf_counter() - began)
            ends[n] = s.final["x"].detach()
    size = ends["Whole"].norm()
    return {n: (1e3 * times[n], float((ends[n] - ends["Whole"]).norm() / size)) for n in names}


def drawn(found: dict[str, tuple[float, float]], file: Path) -> None:
    """The picture: error against how many times faster than the whole net."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    from ndl.runtime.plot_style import color, styled

    whole = found["Whole"][0]
    with styled():
        figure, axes = plt.subplots(figsize=(4.6, 2.8))
        for j, (kind, label) in enumerate((("Pod", "POD–DEIM"), ("Svd", "truncated matrices"))):
            points = [(whole / found[f"{kind}{k}"][0], found[f"{kind}{k}"][1], k) for k in RANKS]
            axes.plot([p[0] for p in points], [p[1] for p in points], "o-", color=color(j), label=label,
                      markersize=3.2, linewidth=1.0)  # fmt: skip
            for x, y, k in points:
                axes.annotate(str(k), (x, y), xytext=(3, 3), textcoords="offset points", fontsize=6.5)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("times faster than the whole net")
        axes.set_ylabel("relative error at the end")
        axes.legend(loc="best", fontsize=7)
        figure.tight_layout()
        figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reduced_node", description=__doc__)
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    found = measured()
    for name, (ms, error) in found.items():
        print(f"{name:6} {ms:8.2f} ms  {found['Whole'][0] / ms:6.1f} times faster  error {error:.2e}")
    if chosen.picture is not None:
        drawn(found, chosen.picture)


if __name__ == "__main__":
    main()
