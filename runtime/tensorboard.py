"""A training as TensorBoard shows it: losses, learning rate, validation and metrics, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ndl.runtime.errors import SettingError
from ndl.runtime.history import Record


class TensorBoard:
    """Writes event files to a folder; a run that goes on replaces what was written after its checkpoint."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SettingError(
                "`log = tensorboard` needs the extra `tensorboard`",
                code="NDL614",
                help="install it with `pip install 'ndl-lang[tensorboard]'`",
            ) from error
        self.folder = folder
        self._writer: Any = None
        self._make: Any = SummaryWriter

    def start(self, step: int) -> None:
        """The run begins after `step` steps."""
        self._writer = self._make(str(self.folder), purge_step=step + 1 if step else None)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._scalar({"loss/loss": "loss/training"}.get(name, name), value, step)

    def look(self, step: int, record: Record) -> None:
        if record.validation_steps and record.validation_steps[-1] == step:
            self._scalar("loss/validation", record.validation[-1], step)
        for name, values in record.metrics.items():
            if values[-1].ndim == 0:
                self._scalar(f"metric/{name}", float(values[-1]), step)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _scalar(self, name: str, value: float, step: int) -> None:
        if not math.isnan(value):
            self._writer.add_scalar(name, value, step)
