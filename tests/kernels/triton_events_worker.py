"""Solves with events and breaks, and with delays beside noise, under Triton's interpreter and by the CPU's
kernels, with gradients.

`python triton_events_worker.py FOLDER` writes `events.npz` (`NAME/BACKEND/K`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import test_noisy_delay_kernels as delayed
import test_noisy_events as noisy
import torch
from test_event_gradients import SOURCE, gradient

import ndl

METHOD, SPAN = "heun(rtol=1e-1, atol=1e-2)", (0, 1.2)
"""The interpreter takes its time: few steps."""


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    program, found = ndl.loads(SOURCE), {}
    for model in ("Touch", "Kicked"):
        for backend in ("triton", "cpu"):
            parts = gradient(program, model, METHOD, backend, span=SPAN, save="every 0.4")
            found |= {f"{model}/{backend}/{k}": part.numpy() for k, part in enumerate(parts)}
    program = ndl.loads(noisy.SOURCE)
    for backend in ("triton", "cpu"):
        value, grads = noisy.gradient(
            program, "euler_maruyama(h=0.25)", backend, 2, span=(0, 0.3125), save="end"
        )
        found |= {f"noisy/{backend}/{k}": part.numpy() for k, part in enumerate((value, *grads))}
    program = ndl.loads(delayed.SOURCE)
    for backend in ("triton", "cpu"):
        _, *parts = delayed.run(
            program, "Drawn", "euler_maruyama(h=0.25)", backend, span=(0, 0.5), save="end"
        )
        found |= {f"delayed/{backend}/{k}": part.numpy() for k, part in enumerate(parts)}
    np.savez(folder / "events.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
