"""Facts as paragraphs, for `ndl explain model.ndl`."""

from __future__ import annotations

from ndl.compiler.passes.facts.facts import STIFF, Facts

EQUATIONS = {
    "ode": "ordinary differential equation",
    "sde": "stochastic differential equation",
    "dae": "differential-algebraic equation",
    "integral": "integral equation",
    "recurrence": "recurrence",
}


def explain(facts: Facts) -> list[tuple[str, str]]:
    """(heading, text) for each fact that says something about this model, in a fixed order."""
    found = [("equation", f"{EQUATIONS[facts.equation.value]}: {facts.equation.why}")]
    if facts.equation.value not in ("integral", "recurrence"):
        autonomous = "autonomous" if facts.autonomous.value else "not autonomous"
        found.append(("time", f"{autonomous}: {facts.autonomous.why}"))
    if facts.noise.value != "none":
        found.append(("noise", f"{facts.noise.value} ({facts.calculus}): {facts.noise.why}"))
        found.append(("drift correction", facts.correction.why))
    if facts.linear.value is not None:
        found.append(("linear part", facts.linear.why))
    if facts.stiffness.value is not None:
        judgement = "stiff" if facts.stiffness.value >= STIFF else "not stiff"
        found.append(("stiffness", f"{judgement}: {facts.stiffness.why}"))
    if facts.equation.value not in ("integral", "recurrence"):
        found.append(("discontinuities", facts.breaks.why))
    n = len(facts.components)
    if facts.sparsity.value is not None and n > 1:
        found.append(("Jacobian", facts.sparsity.why))
        if n <= 16 and len(facts.sparsity.value) < n * n:
            found.append(("sparsity", picture(facts)))
    if facts.conserved.value:
        found.append(("conserved", facts.conserved.why))
    if facts.separable.value is not None:
        text = f"{facts.separable.why}; `leapfrog` and `yoshida4` apply"
        found.append(("separable", text))
    if facts.consistent.value is not None:
        found.append(("initial values", facts.consistent.why))
    return found


def picture(facts: Facts) -> str:
    """The pattern of the Jacobian, a row a line: `×` for an entry, `·` for a 0."""
    n = len(facts.components)
    places = set(facts.sparsity.value or ())
    width = max(map(len, facts.components))
    rows = (" ".join("×" if (i, j) in places else "·" for j in range(n)) for i in range(n))
    return "\n".join(f"{name:<{width}}  {row}" for name, row in zip(facts.components, rows))
