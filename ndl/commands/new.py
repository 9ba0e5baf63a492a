"""`ndl new`: a small project that runs at once."""

from __future__ import annotations

import math
import re
from pathlib import Path

import click

from ndl import console

MODEL = '''"""{title}: a population that grows until its room is full, fitted to counts."""

model Growth:
    param r > 0 = 0.5          # growth rate, 1/day
    param K > 0 = 80.0         # capacity
    state n > 0 = 5.0
    n' = r*n*(1 - n/K)

fn exact(t, r, K, n0) = K/(1 + (K/n0 - 1)*exp(-r*t))

train Growth:
    data      = table("data/counts.csv", time="day", n="count")
    method    = tsit5(rtol=1e-6, atol=1e-6)
    loss      = mean((log(n) - log(data.n))^2)
    fit       = all, initial states
    optimizer = adam(lr=0.02)
    steps     = 300
    plot      = fit

test "the solver agrees with the closed form":
    s = solve(Growth, span=0..20, method=tsit5(rtol=1e-9, atol=1e-9), save=end)
    assert abs(s.final.n - exact(20, 0.5, 80, 5)) < 1e-5
'''

README = """# {title}

`ndl run model.ndl` fits the model to `data/counts.csv` and leaves its results, with a picture, in `runs/`.
`ndl test model.ndl` runs its tests, `ndl check model.ndl` reads it without running it.
"""


def counts() -> str:
    """Made-up counts: logistic growth with r = 0.42, K = 97, seen with a few per cent of error."""
    rows = ["day,count"]
    for day in range(0, 21):
        n = 97 / (1 + (97 / 4 - 1) * math.exp(-0.42 * day))
        rows.append(f"{day},{n * (1 + 0.05 * math.sin(7.3 * day)):.1f}")
    return "\n".join(rows) + "\n"


@click.command("new")
@click.argument("name", type=click.Path(path_type=Path))
def command(name: Path) -> None:
    """Create a folder NAME with a model, data and a README."""
    if name.exists() and (not name.is_dir() or any(name.iterdir())):
        raise click.UsageError(f"{name} exists already")
    title = re.sub(r"[_-]+", " ", name.resolve().name).strip().capitalize() or "Model"
    title = title.replace('"', "").replace("\\", "")
    (name / "data").mkdir(parents=True, exist_ok=True)
    (name / "model.ndl").write_text(MODEL.replace("{title}", title), encoding="utf-8")
    (name / "data" / "counts.csv").write_text(counts(), encoding="utf-8")
    (name / "README.md").write_text(README.replace("{title}", title), encoding="utf-8")
    (name / ".gitignore").write_text("runs/\n", encoding="utf-8")
    console.say(f"created {name}; next: cd {name} && ndl run model.ndl")
