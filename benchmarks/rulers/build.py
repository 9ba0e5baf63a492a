"""Compiles the rulers with the system's C compiler, once per text and compiler, and runs them on threads."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.contest import Missing

HERE = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fno-associative-math", "-std=c11", "-shared", "-fPIC")


def library(name: str) -> ctypes.CDLL:
    """The shared library of `name.c`. Raises Missing without a compiler, or with one that refuses."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise Missing("there is no C compiler")
    source = HERE / f"{name}.c"
    parts = [p.read_bytes() for p in (source, *sorted(HERE.glob("*.h")))]
    key = hashlib.sha256(b"\0".join([compiler.encode(), *parts, " ".join(FLAGS).encode()])).hexdigest()[:16]
    built = Path(tempfile.gettempdir()) / f"ndl-rulers-{os.getuid()}" / f"{name}-{key}.so"
    if not built.exists():
        built.parent.mkdir(mode=0o700, exist_ok=True)
        fresh = built.with_suffix(f".{os.getpid()}")
        command = [compiler, *FLAGS, str(source), "-o", str(fresh), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"the C compiler refuses {source.name}: {done.stderr.strip()[-200:]}")
        fresh.replace(built)
    return ctypes.CDLL(str(built))


def cores() -> int:
    """How many threads a ruler uses: OMP_NUM_THREADS, as the libraries, or all that the process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else len(os.sched_getaffinity(0))


def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores())


def on_all(workers: ThreadPoolExecutor, work: Callable[[int], object]) -> None:
    """`work(k)` on every thread k; ctypes lets the others run meanwhile."""
    for done in [workers.submit(work, k) for k in range(cores())]:
        done.result()


def pointer(array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return array.ctypes.data_as(ctypes.c_void_p)
