"""Runs whose kernels are interpreted instead of compiled: by the interpreter of kernels, or by Triton's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ndl.compiler.kernels.interpret import run as interpret
from ndl.runtime.kernels import ode

from ndl.host.kernels import Kernels


def interpret_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on kernels are interpreted."""
    make: Callable[..., Any] = Kernels.make
    kernels: dict[str, Any] = {}

    def noted(self: Kernels, request: Any) -> Any:
        found = make(self, request)
        if not isinstance(found, str) and found.program.text not in kernels:
            kernels[found.program.text] = self.kernel(request, self.kept(request))[0]
        return found

    def interpreted(self: ode.KernelRun, found: Any, buffers: dict[str, torch.Tensor]) -> None:
        kernel = kernels[found.program.text]
        given = {b.name: buffers[b.name].numpy().reshape(-1) for b in kernel.buffers if b.kind != "scratch"}
        interpret(kernel, given, self.p.count)

    monkeypatch.setattr(Kernels, "make", noted)
    monkeypatch.setattr(ode.KernelRun, "_run", interpreted)


def by_triton(worker: str, folder: Path, *more: str) -> None:
    """Run `worker`, a script beside this one, on `folder` in a process in which Triton interprets kernels."""
    here = Path(__file__).parent
    own = {"NDL_CACHE_DIR": str(folder / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here)}
    env = {**os.environ, **own}
    command = [sys.executable, here / worker, folder, *more]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
