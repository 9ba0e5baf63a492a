"""What `torch.compile` does not look into: a run is one call, around which the graphs of a program end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def opaque(run: Callable[P, R]) -> Callable[P, R]:
    """`run` as a function that `torch.compile` calls instead of tracing it. PyTorch's compiler is a heavy
    import, which only a program that uses it pays."""
    hidden: list[Callable[P, R]] = []

    @wraps(run)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if "torch._dynamo" not in sys.modules:
            return run(*args, **kwargs)
        if not hidden:
            import torch

            disable: Any = torch.compiler.disable
            hidden.append(disable(run, reason="a run of ndl is one call"))
        return hidden[0](*args, **kwargs)

    return call
