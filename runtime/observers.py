"""Who is told how a training goes, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ndl.runtime.history import Record


class Observer(Protocol):
    """Told where the run begins (after `step` steps), of each step's numbers (`loss/…`, `term/…`, `rate`), of
    each look at validation and metrics, which are the last of the record, and of the end."""

    def start(self, step: int) -> None: ...

    def step(self, step: int, values: Mapping[str, float]) -> None: ...

    def look(self, step: int, record: Record) -> None: ...

    def finish(self) -> None: ...
