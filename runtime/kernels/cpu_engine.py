"""Kernels on the CPU: LLVM IR to machine code, kept on disk by content, called by threads.

The cache holds object files under a name made of the text, the processor and the compiler's version; they are
written beside their place and moved there, so that any number of processes may share it. One
that is damaged is compiled again. Its folder is `$NDL_CACHE_DIR`, else `$XDG_CACHE_HOME/ndl`, else
`~/.cache/ndl`; a folder that cannot be written is done without.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ndl.runtime.atomic import replacing
from ndl.runtime.kernels.files import folder
from ndl.runtime.kernels.team import together
from torch import Tensor

SEAL = 32
"""Bytes before a kept object file."""

LEAST = 64
"""Trajectories below which a second thread costs more than it brings."""

MOST_PORTIONS, ROOM = 64, 1 << 22
"""Portions whose sums are kept apart, and reals that all these sums may take."""


@dataclass(frozen=True)
class Program:
    """A printed kernel: its text, its function's name, the order of its buffers. `target` is `cpu` (LLVM IR)
    or `triton` (a Python module); `lanes` is how many trajectories run side by side on a CPU, `sums` the
    buffers to which trajectories add."""

    text: str
    symbol: str
    buffers: tuple[str, ...]
    target: str = "cpu"
    lanes: int = 1
    sums: tuple[str, ...] = ()


class Compiled:
    """A loaded kernel; `engine` keeps its code alive."""

    def __init__(self, program: Program, engine: Any, address: int) -> None:
        self.program, self._engine, self._function = program, engine, address

    def address(self, name: str) -> int:
        """Where another function of the module stands."""
        return int(self._engine.get_function_address(name))

    def run(self, tensors: dict[str, Tensor], members: int, threads: int | None = None) -> None:
        """Run all trajectories. `tensors` are contiguous, by the buffers' names; the lock of the interpreter
        is free meanwhile. `threads` defaults to torch's number."""
        for name in self.program.buffers:
            if not (tensors[name].is_cpu and tensors[name].is_contiguous()):
                raise ValueError(f"the buffer `{name}` is not contiguous in this machine's memory")
        count = threads or torch.get_num_threads()
        count = max(1, min(count, members // LEAST))
        if self.program.sums:
            self._portions(tensors, members, count)
            return
        # all take their next trajectories from one counter
        addresses, counter = self._addresses(tensors), np.zeros(1, np.int64)
        job = (addresses.ctypes.data, counter.ctypes.data, members, members)
        share(self._function, np.array([job] * count, np.int64), count)

    def _addresses(self, tensors: dict[str, Tensor]) -> npt.NDArray[np.int64]:
        """The buffers' addresses."""
        return np.array([tensors[name].data_ptr() for name in self.program.buffers], np.int64)

    def _portions(self, tensors: dict[str, Tensor], members: int, threads: int) -> None:
        """Portions of the trajectories, each by one thread from its first to its last: what they add up does
        not depend on who runs when."""
        sums = [tensors[name] for name in self.program.sums]
        cut = portions_of(members, self.program.lanes, max(t.shape[1] for t in sums))
        own = tuple(t.stride(0) * t.element_size() for t in sums)
        offsets, starts, jobs = _layout(self.program, cut, own, members)
        tables, counters, jobs = offsets + self._addresses(tensors), starts.copy(), jobs.copy()
        jobs[:, 0] += tables.ctypes.data
        jobs[:, 1] += counters.ctypes.data
        share(self._function, jobs, threads)


@lru_cache(maxsize=256)
def _layout(
    program: Program, cut: tuple[tuple[int, int], ...], own: tuple[int, ...], members: int
) -> tuple[npt.NDArray[np.int64], ...]:
    """Of portions whose sums take so many bytes of `own`: how far their buffers are from those of the
    first, where they start, and the words for `share`, as if tables and counters stood at 0."""
    rows, bounds = np.arange(len(cut)), np.array(cut, np.int64)
    offsets = np.zeros((len(cut), len(program.buffers)), np.int64)
    for name, size in zip(program.sums, own, strict=True):
        offsets[:, program.buffers.index(name)] = rows * size
    starts = bounds[:, 0].copy()
    tables, counters = rows * offsets.strides[0], rows * starts.strides[0]
    return offsets, starts, np.stack([tables, counters, np.full(len(cut), members), bounds[:, 1]], 1)


@lru_cache(maxsize=256)
def portions_of(members: int, lanes: int, rows: int) -> tuple[tuple[int, int], ...]:
    """First and last + 1 of portions of the trajectories, each of which has sums of `rows` rows of its own.
    They depend on nothing but these numbers, and are twice as many as threads may come."""
    blocks = -(-members // lanes)
    many = max(1, min(MOST_PORTIONS, blocks, 2 * members // LEAST, ROOM // max(rows, 1)))
    size = -(-blocks // many) * lanes
    return tuple((k, min(k + size, members)) for k in range(0, members, size))


_lock = threading.Lock()
_loaded: dict[Program, Compiled] = {}


def load(program: Program) -> Compiled:
    """The compiled form of a kernel, from this process, the disk, or LLVM."""
    with _lock:
        if program not in _loaded:
            _loaded[program] = _load(program, key_of(program))
        return _loaded[program]


def key_of(program: Program) -> str:
    """What the machine code depends on."""
    import llvmlite

    binding, _ = _machine()
    cpu = f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"
    parts = (program.symbol, program.text, cpu, llvmlite.__version__, str(binding.llvm_version_info))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _load(program: Program, key: str) -> Compiled:
    binding, _ = _machine()
    file = folder() / "cpu" / f"{key}.obj"
    # an engine owns its target machine, and takes it along when it goes
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _new_machine())
    code = _read(file)
    if code is None:
        code = compile_object(program)
        with contextlib.suppress(OSError), replacing(file) as temporary:
            temporary.write_bytes(_seal(code) + code)
    engine.add_object_file(binding.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return Compiled(program, engine, engine.get_function_address(program.symbol))


def _read(file: Path) -> bytes | None:
    """The object file that is kept; None where there is none, or a damaged one, on which a loader crashes."""
    try:
        whole = file.read_bytes()
    except OSError:
        return None
    seal, code = whole[:SEAL], whole[SEAL:]
    return code if _seal(code) == seal else None


def _seal(code: bytes) -> bytes:
    """What stands before an object file: a digest by which damage is seen."""
    return hashlib.sha256(code).digest()


def compile_object(program: Program) -> bytes:
    """The object file of a kernel, compiled for this machine."""
    return bytes(_machine()[1].emit_object(optimized(program)))


def assembly(program: Program) -> str:
    """The machine code of a kernel as text, for tests and for the curious."""
    return str(_machine()[1].emit_assembly(optimized(program)))


def optimized(program: Program, machine: Any = None) -> Any:
    """The LLVM module after LLVM's own passes, for this machine or another; vectorisers stay off, since the
    lanes are vectors already."""
    binding, here = _machine()
    machine = machine or here
    module = binding.parse_assembly(program.text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    options = binding.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


@cache
def _machine() -> tuple[Any, Any]:
    """LLVM, prepared, and this machine as its target."""
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding, _new_machine()


def _new_machine() -> Any:
    import llvmlite.binding as binding

    features = binding.get_host_cpu_features().flatten()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=3, jit=True
    )


def share(function: int, jobs: npt.NDArray[np.int64], threads: int) -> None:
    """Call a C function once with the words of each row of `jobs`, contiguous, by at most so many threads:
    who is ready takes the next row."""
    work = np.array([0, len(jobs), function, jobs.ctypes.data], np.int64)
    together(_sharing(jobs.shape[1]), work.ctypes.data, min(threads, len(jobs)))


@cache
def _sharing(words: int) -> int:
    """The address of what a thread of `share` does."""
    return load(Program(_sharing_text(words), "share", ())).address("share")


def _sharing_text(words: int) -> str:
    """LLVM's text of it; `work` is the next row, how many there are, the function, and the rows."""
    at = "  %p{0} = getelementptr i64, ptr %row, i64 {0}\n  %w{0} = load i64, ptr %p{0}\n"
    loads = "".join(at.format(k) for k in range(words))
    given = ", ".join(f"i64 %w{k}" for k in range(words))
    return f"""define void @share(ptr %work) {{
entry:
  %many.at = getelementptr i64, ptr %work, i64 1
  %many = load i64, ptr %many.at
  %function.at = getelementptr i64, ptr %work, i64 2
  %function = load ptr, ptr %function.at
  %rows.at = getelementptr i64, ptr %work, i64 3
  %rows = load ptr, ptr %rows.at
  br label %next
next:
  %k = atomicrmw add ptr %work, i64 1 monotonic
  %more = icmp slt i64 %k, %many
  br i1 %more, label %one, label %done
one:
  %start = mul i64 %k, {words}
  %row = getelementptr i64, ptr %rows, i64 %start
{loads}  call void %function({given})
  br label %next
done:
  ret void
}}
"""
