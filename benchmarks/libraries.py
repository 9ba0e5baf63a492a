"""How contestants are asked: NDL through its public interface, JAX with its devices and precision."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.contest import NDL, Call, Contestant
from benchmarks.rulers.build import cores


def by_ndl(
    text: str,
    backends: Sequence[str | None],
    call: Callable[[Any, dict[str, Any]], Any],
    made: Callable[[Any], Any],
    label: str,
) -> list[Contestant]:
    """NDL once for each backend (None is its choice): `call(model, settings)` is timed.

    text      a program with one model; made(class)  gives an instance with its values
    settings  has what `ndl.solve` is to be given besides: the backend, if one is named
    """

    def prepare(backend: str | None) -> Call:
        import ndl

        (found,) = ndl.loads(text).models.values()
        model = made(found)
        settings = {} if backend is None else {"backend": backend}
        return lambda: call(model, settings)

    return [
        Contestant(label if b is None else f"{label}, backend {b}", NDL, lambda b=b: prepare(b))  # type: ignore[misc]
        for b in backends
    ]


def jax_on_all_cores() -> Any:
    """The module `jax`, with one device a core and no more threads than the others; must come before
    anything else imports it."""
    os.environ.setdefault("NPROC", str(cores()))  # what XLA asks for the size of its pool
    flag = f"--xla_force_host_platform_device_count={cores()}"
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    import jax

    return jax


def in_double(jax: Any, call: Call) -> Call:
    """The call with JAX's float64 on, during its compilation too."""

    def run() -> Any:
        with jax.enable_x64(True):
            return call()

    return run
