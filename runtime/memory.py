"""How much memory a device has left, and what a run may take of it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch
from ndl.runtime.errors import SettingError


def free(device: torch.device) -> float | None:
    """Bytes that are free on a device, within the limits of a container; None where nobody says."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + unused)
    found = []
    with suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024.0 * int(next(x for x in lines if x.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, ValueError):
        limit, used = (Path("/sys/fs/cgroup", name).read_text() for name in ("memory.max", "memory.current"))
        found.append(float(int(limit) - int(used)))
    return max(min(found), 0.0) if found else None


SMALL = 1 << 26
"""Bytes for which nobody asks whether there is room: the answer takes as long as a small run."""


def refuse_tape(size: float, device: torch.device, help: str | None = None) -> None:
    """Raise `SettingError` where a tape of so many bytes does not fit; `help` says what to do instead."""
    room = free(device) if size > SMALL else None
    if room is not None and size > room:
        raise SettingError(
            f"the accepted steps of this run take {amount(size)}, and {amount(room)} of memory are free",
            help=help
            or f"use `gradient = checkpoint(memory={0.5 * room:.0e})`, which keeps some steps and takes "
            "the others again",
        )


def amount(size: float) -> str:
    """Bytes in words."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} bytes"
