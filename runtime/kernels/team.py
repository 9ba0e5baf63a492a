"""Threads for kernels on the CPU: those of the OpenMP runtime that torch computes with.

Between two works an OpenMP thread spins for some milliseconds. After each operation of torch that used them
threads of our own would share cores with spinning ones, so that kernels are given to the same threads. Where
torch has another runtime, and in the children of a fork, which inherit no threads, there is a pool.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch

_Work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def together(function: int, work: int, threads: int) -> None:
    """Call the C function `void f(void *work)` at an address in so many threads at once, this one among them,
    at most: OpenMP may give fewer. The interpreter's lock is free meanwhile."""
    if threads == 1:
        _Work(function)(work)
    elif (parallel := _openmp()) is not None:
        parallel(function, work, threads, 0)
    else:
        call = _Work(function)
        for done in [_pool(threads).submit(call, work) for _ in range(threads)]:
            done.result()


@cache
def _openmp() -> Callable[[int, int, int, int], None] | None:
    """`GOMP_parallel` of the runtime that torch is linked with; GNU's and LLVM's have it."""
    suffix = "dylib" if sys.platform == "darwin" else "so"
    try:
        # of the library and of all that it needs
        found = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / f"libtorch_cpu.{suffix}")).GOMP_parallel
    except (OSError, AttributeError):
        return None
    found.argtypes, found.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return found  # type: ignore[no-any-return]


def _without_openmp() -> None:
    return None


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="ndl-kernel")


def _forked() -> None:
    """No thread of the parent is here, and OpenMP would wait for them for ever."""
    global _openmp
    _pool.cache_clear()
    _openmp = _without_openmp  # type: ignore[assignment]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
