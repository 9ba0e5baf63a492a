"""Runs whose kernels are interpreted instead of compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ndl.compiler.kernels.interpret import run as interpret
from ndl.runtime.kernels import ode

from ndl.host.kernels import Kernels


def interpret_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on kernels are interpreted."""
    made: Callable[..., Any] = Kernels._make
    kernels: dict[str, Any] = {}

    def noted(self: Kernels, request: Any) -> Any:
        found = made(self, request)
        kernels[found.program.text] = self.kernel(request, self.kept(request))[0]
        return found

    def interpreted(self: ode.KernelRun, found: Any, buffers: dict[str, torch.Tensor]) -> None:
        kernel = kernels[found.program.text]
        given = {b.name: buffers[b.name].numpy().reshape(-1) for b in kernel.buffers if b.kind != "scratch"}
        interpret(kernel, given, self.p.count)

    monkeypatch.setattr(Kernels, "make", noted)
    monkeypatch.setattr(ode.KernelRun, "_run", interpreted)
