"""Problems written in NDL, compiled once a session, and what solving them gives as arrays."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from ndl.compiler.source import Source

from ndl.session import Program, solve_model

Floats = npt.NDArray[np.float64]

TEXT = '''
model Turning:
    """u is logistic and (v, w) turns by an angle with rate 1 + t u': nonlinear, depending on t."""
    state u = 0.5, v = 1.0, w = 0.0
    u' = u*(1 - u)
    v' = -(1 + t*u*(1 - u))*w
    w' = (1 + t*u*(1 - u))*v

model Kicked:
    """x = sin(t): separable, with a force that depends on t."""
    state x = 0.0
    state x' = 1.0
    x'' = -sin(x) + sin(sin(t)) - sin(t)

model Parts:
    """Two parts that do not commute and depend on t."""
    state x = 1.0, y = 1.0
    term first = [-x*y, 0.5*x]
    term second = [x*(1 + sin(t)) - x, cos(t) - 0.5*exp(-t)]
    x', y' = first + second
'''


def turning(t: Any) -> Floats:
    """u, v, w of `Turning` at t, stacked last."""
    t = np.asarray(t, dtype=np.float64)
    u = 1 / (1 + np.exp(-t))
    angle = t + t * u - np.log((1 + np.exp(t)) / 2)
    return np.stack([u, np.cos(angle), np.sin(angle)], -1)


@cache
def program(text: str) -> Program:
    """A program from its text."""
    return Program.load(Source("problems.ndl", text))


def model(name: str, text: str = TEXT, **values: Any) -> Any:
    """An instance of a model of a program."""
    return program(text).models[name](**values) if not values else program(text).models[name].make(values)


def solve(instance: Any, method: str | None, span: str = "0..1", **settings: Any) -> Any:
    """Solve with settings written as in a program: `save="every 0.1"`."""
    texts = {"span": span, **{k: str(v) for k, v in settings.items()}}
    if method is not None:
        texts["method"] = method
    return solve_model(instance, texts)


def numbers(tensor: Any) -> Floats:
    """A result as an array."""
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)


def final(solution: Any, *names: str) -> Floats:
    """The named states at the end, stacked last."""
    return np.stack([numbers(solution.final[n]) for n in names], -1)


def slope(steps: Any, errors: Any) -> float:
    """The exponent p of errors ~ steps^p by least squares."""
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])
