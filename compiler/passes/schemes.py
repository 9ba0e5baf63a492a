"""What schemes were used for, in words."""

from __future__ import annotations

from ndl.compiler.ir.model import ModelIR, SchemeSpec


def carried(model: ModelIR) -> list[str]:
    """What `ndl explain` says of what carries the fields of a model."""
    return [_sentence(s) for s in model.schemes]


def _sentence(s: SchemeSpec) -> str:
    names, many = ", ".join(f"`{n}`" for n in s.states), len(s.states)
    start = f"`{s.scheme}` along `{s.coordinate}` for"
    if s.scheme == "central":
        return f"central differences for a part of the rate of {names}, which is {s.speed}"
    if s.speed == "the factor of its slope":
        return f"{start} the slope of {names}, from the side from which its factor carries it"
    if s.speed == "0":
        return f"{start} the flux of {names}, which no wave of its own carries"
    if many == 1:
        return f"{start} the flux of {names}; speed of waves: the {s.speed}"
    of = f"the {s.speed} of the {many}×{many} Jacobian"
    return f"{start} the fluxes of {names}, which depend on each other; speed of waves: {of}"
