"""Every solver of the library on every kind of problem: programs, runs, and what goes by torch for which
reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from ndl.compiler.diagnostics import NDLError

import ndl

SOLVERS = Path(__file__).parents[2] / "stdlib" / "solvers"

SOURCE = """
model Plain:
    param k = 1.3
    state x = 1.0
    state v = 0.5
    x' = v
    v' = -k*sin(x) - 0.1*v*cos(t)

model Stiff:
    param k = 8.0
    state x = 1.5
    state v = 0.0
    x' = v
    v' = k*(1 - x^2)*v - x

model Tied:
    param k = 2.0
    state x = 1.0
    state z = 1.0
    x' = -k*z
    0 = z + 0.3*z^3 - sin(x) - 0.1*t

model Struck:
    param k = 1.2
    state x = 1.0
    state v = 0.0
    x' = v
    v' = -k
    when falling(x - 0.6):
        v <- -0.7*v
    when every 0.45:
        x <- x + 0.1*k

model Shaken:
    param k = 0.9
    z: R[2] ~ normal(0, k) per step
    state x = 1.0
    x' = -k*x + z[0]*sin(t) + z[1]

model Jolted:
    param k = 1.3
    z: R[2] ~ normal(0, k) per step
    state x = 1.0
    state y = 0.2
    term spin = [-k*y, k*x]
    term push = [0.3*x + z[0], sin(x) + 0.1*z[1]]
    x', y' = spin + push

model Learned:
    net f: R[2] -> R[2] = MLP(width=5, depth=1)
    state x: R[2] = [1.0, -0.5]
    x' = f(x) - x

model Turning:
    param k = 1.3
    state x = 1.0
    state y = 0.2
    term spin = [-k*y, k*x]
    term push = [0.3*x, sin(x) + 0.1*cos(t)]
    x', y' = spin + push

model Swinging:
    param k = 1.3
    state q = 1.0
    state q' = 0.5
    q'' = -k*sin(q)

model Additive:
    param k = 0.4
    state q = 1.0
    state p = 0.0
    noise W: wiener[2]
    dq = p*dt + 0.1*dW[0]
    dp = -sin(q)*dt + k*dW[1]

model Scalar:
    param k = 0.3
    state x = 1.0
    noise W: wiener
    dx = 0.1*x*dt + k*x*dW

model Diagonal:
    param k = 0.5
    state q: R[2] = [1.0, 2.0]
    noise W: wiener[2]
    dq = -q*dt + k*sin(q)*dW

model General:
    calculus stratonovich
    param k = 0.5
    state q = 1.0
    state p = 0.5
    noise V: wiener
    noise W: wiener
    dq = p*dt + k*sin(p)*dV + 0.1*q*dW
    dp = -q*dt + 0.2*cos(q)*dW + 0.3*q*dV

model Passing:
    param k = 0.6
    state x = 1.0
    noise W: wiener
    dx = -x*dt + k*dW
    when falling(x - 0.8):
        x <- x + 0.3
    when every 0.45:
        x <- x + 0.1*k

model Drifting:
    net f: R[2] -> R[2] = MLP(width=5, depth=1)
    state x: R[2] = [1.0, -0.5]
    noise W: wiener[2]
    dx = (f(x) - x)*dt + 0.3*dW
"""

PROBLEMS = {
    "ode": ("Plain", "Stiff", "Tied", "Struck", "Shaken", "Learned"),
    "sde": ("Additive", "Scalar", "Diagonal", "General", "Passing", "Drifting"),
    "split": ("Turning", "Jolted", "Swinging"),
}
COUNT = 3
GENERAL = ("lie", "strang", "imex", "ars222", "ars443")


def solvers() -> list[tuple[str, str]]:
    """Names and kinds of the library's solvers of equations in time."""
    text = "\n".join(path.read_text() for path in sorted(SOLVERS.glob("*.ndl")))
    found = re.findall(r"^solver (\w+)\b.* for (ode|sde|split)\b", text, flags=re.MULTILINE)
    return sorted(set(found), key=lambda pair: (pair[1], pair[0]))


def cells() -> list[tuple[str, str, str]]:
    """(kind, solver, problem); general splittings have terms, the symplectic ones a Hamiltonian."""
    found = [(kind, name, problem) for name, kind in solvers() for problem in PROBLEMS[kind]]
    return [c for c in found if c[0] != "split" or (c[1] in GENERAL) == (c[2] != "Swinging")]


def method_of(kind: str, solver: str, steps: str) -> str:
    """A method as text: parts of splittings by one step of rk4, where they are stages of Euler's."""
    if solver.startswith("ars"):
        return f"{solver}(spin: implicit_euler, push: euler, {steps})"
    if solver in GENERAL:
        return f"{solver}(spin: exact, push: rk4, {steps})"
    return f"{solver}({steps})"


class Ran:
    """A run: steps, values, and the gradients of a weighted sum of them."""

    def __init__(
        self, program: Any, problem: str, method: str, backend: str, gradient: str, shift: float = 0.0,
        **settings: Any,
    ) -> None:  # fmt: skip
        """`shift` is added to the parameter k."""
        model = getattr(program, problem)()
        leaves = [p for p in model.parameters() if p.requires_grad]
        if hasattr(model, "k"):
            k = shift + float(model.k.detach()) * torch.linspace(0.9, 1.1, COUNT, dtype=torch.float64)
            leaves = [k.requires_grad_(True)]
            model = model.bind(k=k)
        usual = {"span": (0, 1), "save": "every 0.5", "ensemble": COUNT, "seed": 3}
        s = ndl.solve(model, method=method, backend=backend, gradient=gradient, **{**usual, **settings})
        values = torch.cat([s[n].values.flatten() for n in s.names()])
        weight = torch.linspace(-1, 1, len(values), dtype=torch.float64)
        self.steps, self.rejected, self.values = s.stats.steps, s.stats.rejected, values.detach()
        self.grads: list[torch.Tensor] = []
        if gradient != "none":
            found = torch.autograd.grad((values * weight).sum(), leaves)
            self.grads = [g.to(torch.float64).flatten() for g in found]


EXPLICIT = "euler heun midpoint rk4 ssprk2 ssprk3 ssprk54 bosh3 dopri5 tsit5 vern7 dopri8"
ODE, SDE = " ".join(PROBLEMS["ode"]), " ".join(PROBLEMS["sde"])

GAPS = (
    # solvers, problems, what has no kernel, in whose words
    (EXPLICIT, "Tied", "run", "is explicit and cannot keep the algebraic equations of `Tied`"),
    ("taylor", "Tied", "run", "it has algebraic equations"),
    ("etdrk2 ifrk4", ODE, "run", "`apply_phi` has no scalar form"),
    ("etdrk4", ODE, "run", "`apply_linear` has no scalar form"),
    ("milstein", "General", "run", "`milstein` needs commutative noise or simpler"),
    ("sosri sosri2 sri", "General", "run", "needs diagonal noise or simpler"),
    ("sra1", "Scalar Diagonal General", "run", "`sra1` needs additive noise or simpler"),
)  # fmt: skip
"""What goes by torch, or not at all, and why: every other cell is served by kernels, there and back."""


def gap(solver: str, problem: str, part: str) -> str | None:
    """Why a solver has no kernel for a `run` of a problem, or for its `gradient`; None where it has."""
    for names, problems, what, words in GAPS:
        if solver in names.split() and problem in problems.split() and what == part:
            return words
    return None


def refused(program: Any, problem: str, method: str, gradient: str) -> str:
    """Why `backend = cpu` refuses a run; empty where it does not."""
    try:
        Ran(program, problem, method, "cpu", gradient)
    except NDLError as error:
        return str(error).splitlines()[0]
    return ""


def off(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference over the size of what is compared."""
    return float((a - b).abs().max() / a.abs().max())
