"""The device that a run is told to use."""

from __future__ import annotations

from typing import Any

import torch
from ndl.runtime.errors import SettingError


def chosen_device(word: Any) -> torch.device:
    """`cpu`, `cuda` or `auto` (a GPU where there is one). Raises `SettingError` where there is none."""
    there = torch.cuda.is_available()
    if word == "auto":
        return torch.device("cuda" if there else "cpu")
    try:
        device = torch.device(word)
    except RuntimeError:
        raise SettingError(f"`{word}` is no device", help="devices: `cpu`, `cuda`, `auto`") from None
    if device.type == "cuda" and not there:
        built = torch.version.cuda is not None
        raise SettingError(
            "this machine has no GPU that PyTorch can use",
            notes=() if built else ("the PyTorch that is installed was built without CUDA",),
            help="write `device = auto` to take a GPU only where there is one",
        )
    return device
