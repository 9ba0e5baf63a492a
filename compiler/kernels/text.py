"""Kernels as text: one instruction a line, the equation that it came from beside the first of its lines."""

from __future__ import annotations

from collections.abc import Iterator

from ndl.compiler.kernels.code import number_of
from ndl.compiler.kernels.ir import Block, Buffer, Instr, Kernel, Value

WIDTH = 60
"""Where the equations' column starts."""


def show(kernel: Kernel) -> str:
    """The text of a kernel."""
    kind = f" carries {', '.join(kernel.carried)}" if kernel.carried else ""
    lines = [f"kernel {kernel.name}({kernel.precision}){kind}{', even' if kernel.even else ''}"]
    lines += [f"    {_buffer(b)}" for b in kernel.buffers]
    for name, block in kernel.blocks():
        lines += [f"{name}{_params(block.params)}:", *_block(block, 1, "yield")]
    return "\n".join(lines) + "\n"


def _buffer(b: Buffer) -> str:
    return f"buffer {b.name}: {b.kind} {b.mode} {b.type}"


def _params(values: tuple[Value, ...]) -> str:
    return f"({', '.join(f'{v}: {v.type}' for v in values)})" if values else ""


def _block(block: Block, depth: int, word: str) -> Iterator[str]:
    pad, last = "    " * depth, ""
    for instr in block.body:
        line = f"{pad}{_instr(instr)}"
        if instr.origin and instr.origin != last:
            line = f"{line:<{WIDTH}}  # {instr.origin}"
        last = instr.origin
        yield line
        yield from _regions(instr, depth)
    if block.yields:
        yield f"{pad}{word} {', '.join(map(str, block.yields))}"


def _regions(instr: Instr, depth: int) -> Iterator[str]:
    names = {"while": ("test", "do"), "when": ("then",), "map": ("each",)}.get(instr.op, ())
    for name, region in zip(names, instr.regions, strict=True):
        yield f"{'    ' * depth}{name}{_params(region.params)}:"
        yield from _block(region, depth + 1, "yield")


def _instr(instr: Instr) -> str:
    left = ", ".join(f"{v}: {v.type}" for v in instr.results)
    args = ", ".join(map(str, instr.args))
    if instr.op == "const":
        right = f"const {number_of(instr)!r}"
    elif instr.op in ("load", "store"):
        right = f"{instr.op} {instr.attr('buffer')}, {args}"
    elif instr.op in ("row", "accumulate", "keep", "recall"):
        right = f"{instr.op} {instr.attr('buffer')}[{instr.attr('at')}], {args}".rstrip(", ")
    elif instr.op in ("dense", "dense_t", "outer"):
        right = f"{instr.op} {instr.attr('matrix')}, {args}"
    elif instr.op == "view":
        right = f"view {args}{instr.attr('view')}"
    elif instr.op == "collect":
        right = "collect " + ", ".join(f"{a}{v}" for a, v in zip(instr.args, instr.attr("views")))
    elif instr.op == "element":
        right = f"element {args}[{instr.attr('at')}]"
    else:
        right = f"{instr.op} {args}".rstrip()
    return f"{left} = {right}" if left else right
