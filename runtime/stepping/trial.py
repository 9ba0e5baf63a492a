"""A run on trial: of how many steps it is shows only while it is made, and a long one is for a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class LongRun(Exception):
    """A run on trial has come to its last attempt."""


_attempts: ContextVar[int | None] = ContextVar("attempts", default=None)


@contextmanager
def trial(attempts: int | None) -> Iterator[None]:
    """Loops that begin inside raise `LongRun` after so many attempts; None: none does."""
    token = _attempts.set(attempts)
    try:
        yield
    finally:
        _attempts.reset(token)


def attempts_given() -> int | None:
    """How many attempts a loop that begins now has."""
    return _attempts.get()
