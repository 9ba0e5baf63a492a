"""What surrounds a run: transforms of `torch.func`, automatic casts, the capture of a CUDA graph."""

from __future__ import annotations

from typing import Any

import torch
from ndl.runtime.errors import SettingError


def refuse_surroundings() -> None:
    """Raise `SettingError` where no run can be: its loops depend on values, which it looks at."""
    if "Vmap" in transforms():
        raise SettingError(
            "`torch.vmap` cannot batch a run, which looks at its values",
            help="give the batch as members, `model.bind(x=batch)`: they are run as one",
        )
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise SettingError(
            "a CUDA graph cannot record a run, which looks at its results",
            help="capture what comes before the run and what comes after it",
        )


def transforms() -> tuple[str, ...]:
    """The transforms of `torch.func` that are at work, the outermost first: `Vmap`, `Grad`, `Jvp`; and
    `Jvp` for dual numbers of `torch.autograd.forward_ad`."""
    stack = torch._C._functorch.get_interpreter_stack() or []
    dual = ("Jvp",) if torch.autograd.forward_ad._current_level >= 0 else ()
    return (*(str(level.key().name) for level in stack), *dual)


def exact_arithmetic(device: torch.device) -> Any:
    """A context in which operations have the precision of the run, whatever `torch.autocast` says."""
    return torch.autocast(device.type, enabled=False)
