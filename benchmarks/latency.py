"""How long `ndl check` and `ndl compile` take in fresh processes, on small and on hundred-line programs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.lotka_fit import PROGRAM
from benchmarks.measure import Process, processes


def chain(n: int = 31) -> str:
    """A program of about a hundred lines: n oscillators in a row, three lines each."""
    lines = ["model Chain:", "    param k > 0 = 2.0", "    param c = 0.1"]
    for i in range(n):
        left = f"k*(x{i - 1} - x{i})" if i else "0"
        right = f"k*(x{i + 1} - x{i})" if i + 1 < n else "0"
        lines.append(f"    state x{i} = {1.0 if i == 0 else 0.0}")
        lines.append(f"    state x{i}' = 0.0")
        lines.append(f"    x{i}'' = {left} + {right} - c*x{i}' - sin(x{i})")
    lines += ["", "solve Chain:", "    span = 0..10", "    method = tsit5(rtol=1e-6)"]
    return "\n".join(lines) + "\n"


def run(rounds: int = 7) -> dict[str, Process]:
    """Wall and processor times by command; the first is an empty Python process."""
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "chain.ndl"
        large.write_text(chain(), encoding="utf-8")
        ndl = [sys.executable, "-m", "ndl"]
        lines = len(chain().splitlines())
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            f"ndl check, {len(PROGRAM.read_text(encoding='utf-8').splitlines())} lines": [
                *ndl,
                "check",
                str(PROGRAM),
            ],
            f"ndl check, {lines} lines": [*ndl, "check", str(large)],
            f"ndl compile, {lines} lines": [
                *ndl,
                "compile",
                str(large),
                "-o",
                str(Path(folder) / "chain.py"),
            ],
        }
        return processes(commands, rounds)
