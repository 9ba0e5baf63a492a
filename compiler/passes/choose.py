"""Automatic choices: each with a sentence that quotes the fact it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from ndl.compiler.passes.facts.facts import Facts


@dataclass(frozen=True)
class Choice:
    """What is chosen when a setting is absent. `value` None: nothing is needed."""

    setting: str
    value: str | None
    why: str


def choose_method(facts: Facts) -> Choice:
    """The solver of a model for which none was named."""
    if facts.equation.value == "recurrence":
        return Choice("method", None, f"no method is needed: {facts.equation.why}")
    if facts.equation.value == "integral":
        method = "nystrom" if "Fredholm" in facts.equation.why else "picard"
        return Choice("method", method, f"`{method}`, since {facts.equation.why}")
    if facts.noise.value != "none":
        return noisy(facts)
    if facts.equation.value == "dae":
        return Choice("method", "rodas5", f"`rodas5`, which is implicit, since {facts.equation.why}")
    if facts.stiff:
        return Choice("method", "rodas5", f"`rodas5`, which is implicit, since {facts.stiffness.why}")
    if facts.stiffness.value is None:
        why = f"`tsit5`; {facts.stiffness.why}. If it takes many small steps, try `rodas5`"
        return Choice("method", "tsit5", why)
    return Choice("method", "tsit5", f"`tsit5`, an explicit method, since {facts.stiffness.why}")


def noisy(facts: Facts) -> Choice:
    """Methods of higher order only where the noise allows them; else the safe one of the calculus."""
    kind, why = facts.noise.value, facts.noise.why
    if kind == "additive":
        return Choice("method", "sra1", f"`sra1`, of strong order 1.5 for additive noise, since {why}")
    if kind in ("scalar", "diagonal", "commutative"):
        return Choice("method", "milstein", f"`milstein`, of strong order 1 for {kind} noise, since {why}")
    if facts.calculus == "stratonovich":
        return Choice("method", "euler_heun", f"`euler_heun`, which takes any Stratonovich noise: {why}")
    return Choice("method", "euler_maruyama", f"`euler_maruyama`, which takes any Itô noise: {why}")


def choose_gradient(facts: Facts, method: str | None = None) -> Choice:
    """How gradients of a solve are taken."""
    if method == "reversible_heun":
        return Choice("gradient", "reversible", "`reversible`, since `reversible_heun` can be run backwards")
    size = len(facts.components)
    return Choice(
        "gradient",
        "discrete",
        f"`discrete`, the exact gradient of what was computed: its memory is steps times {size} "
        f"component{'s' if size > 1 else ''} of the state",
    )


def choices(facts: Facts) -> list[Choice]:
    """Every automatic choice for a model, in the order of the settings."""
    method = choose_method(facts)
    return [method, choose_gradient(facts, method.value)]
