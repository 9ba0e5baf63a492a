"""Compiling kernels ahead of time for GPUs that need not be there, and what they take of the hardware."""

from __future__ import annotations

import importlib.util
import io
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ndl.compiler.backends.triton.module import OPTIONS, print_module
from ndl.compiler.backends.triton.rewriting import WORK
from ndl.compiler.kernels.ir import Kernel

ARCHITECTURES = (80, 90)
"""Compute capabilities: 80 is that of an A100, 90 of an H100."""


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on one architecture: registers of a thread, bytes spilled of a thread, bytes of
    shared memory of a program, bytes of the workspace of a thread."""

    kernel: str
    architecture: int
    block: int
    warps: int
    registers: int
    spills: int
    shared: int
    workspace: int = 0


class TritonMissing(ImportError):
    """Triton is not installed."""

    def __init__(self) -> None:
        super().__init__("kernels for GPUs need triton: `pip install ndl-lang[triton]`")


def compiled(
    kernel: Kernel, architecture: int, block: int = 32, warps: int = 1, stages: int = 1
) -> tuple[Any, Resources]:
    """The compiled kernel (its `asm` holds the code by kind) and what it takes. Needs no GPU.

    The code holds no line numbers, and so nothing of the folder in which it was made."""
    try:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
    except ImportError as error:
        raise TritonMissing from error
    if triton.knobs.runtime.interpret:
        raise RuntimeError("TRITON_INTERPRET is set: kernels are interpreted, not compiled")
    with tempfile.TemporaryDirectory() as folder:
        module = _module(print_module(kernel), Path(folder))
        function = module.KERNEL
        source = ASTSource(function, _signature(kernel, function.arg_names), {"BLOCK": block})
        options = {"num_warps": warps, "num_stages": stages, **OPTIONS}
        with _talkative(triton.knobs) as log, getattr(module, "lane_by_lane", nullcontext)():
            made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    registers, spills = _counted(log.getvalue())
    shared = int(made.metadata.shared)
    work = module.WORKSPACE * (8 if kernel.precision == "f64" else 4) * block // (32 * warps)
    return made, Resources(kernel.name, architecture, block, warps, registers, spills, shared, work)


@contextmanager
def _talkative(knobs: Any) -> Iterator[io.StringIO]:
    """Triton compiles afresh and without line numbers; what its assembler says is kept, not shown. (Where
    the assembler fails, Triton prints the whole code: the error that it raises says why.)"""
    log = io.StringIO()
    with knobs.compilation.scope(), knobs.nvidia.scope(), redirect_stdout(log):
        knobs.compilation.always_compile = True
        knobs.compilation.disable_line_info = True
        knobs.nvidia.dump_ptxas_log = True
        yield log


def resources(
    kernels: Iterable[Kernel],
    architectures: Sequence[int] = ARCHITECTURES,
    block: int = 32,
    warps: int = 1,
) -> list[Resources]:
    """What each kernel takes on each architecture."""
    return [compiled(k, a, block, warps)[1] for k in kernels for a in architectures]


def table(rows: Iterable[Resources]) -> str:
    """Resources as text, a kernel and architecture a line."""
    head = f"{'kernel':<24} {'sm':>4} {'block':>6} {'warps':>6} {'registers':>10} {'spills':>7} {'shared':>7}"
    return "\n".join([head, *map(_row, rows)]) + "\n"


def _row(r: Resources) -> str:
    tile = f"{r.kernel:<24} {r.architecture:>4} {r.block:>6} {r.warps:>6}"
    return f"{tile} {r.registers:>10} {r.spills:>7} {r.shared:>7}"


def _signature(kernel: Kernel, names: Sequence[str]) -> dict[str, str]:
    """The types of the function's arguments: a workspace comes after the buffers of the kernel."""
    real = {"f64": "*fp64", "f32": "*fp32"}[kernel.precision]
    pointers = [real if b.type == "real" else "*i32" for b in kernel.buffers]
    work = [real] if f"{WORK}_ptr" in names else []
    queue = [] if kernel.even else ["*i32"]
    portion = ["i32"] if any(b.kind == "sum" for b in kernel.buffers) else []
    return dict(zip(names, ["i32", *queue, *pointers, *work, *portion, "constexpr"], strict=True))


def _module(text: str, folder: Path) -> ModuleType:
    """The module imported; its file must stay until the kernel is compiled."""
    path = folder / "kernel.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("kernel", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _counted(log: str) -> tuple[int, int]:
    """Registers and spilled bytes of a thread, as the assembler counts them."""
    registers = re.findall(r"Used (\d+) registers", log)
    if not registers:
        raise RuntimeError(f"the assembler does not say what the kernel takes:\n{log[-2000:]}")
    spills = re.findall(r"(\d+) bytes spill stores", log)
    return max(map(int, registers)), max(map(int, spills), default=0)


__all__ = ["ARCHITECTURES", "Resources", "TritonMissing", "compiled", "resources", "table"]
