"""A kernel as a whole Python module: helper functions, one Triton function, its launch.

A program owns a tile of `BLOCK` lanes. In `even` kernels all trajectories end together and a program runs
one tile. Otherwise a fixed number of programs share a counter, the queue: lanes whose trajectory is done
store its results and take the next ones, until none are left.
"""

from __future__ import annotations

from ndl.compiler.backends.triton.arrays import TILES
from ndl.compiler.backends.triton.body import DESK, PAD, Body
from ndl.compiler.backends.triton.forms import HELPERS, NATIVE
from ndl.compiler.backends.triton.names import Names, ascii_name
from ndl.compiler.backends.triton.rewriting import WORK
from ndl.compiler.backends.triton.workspace import LIMIT, fitted, rows_of
from ndl.compiler.kernels.arrays import has_arrays
from ndl.compiler.kernels.ir import Kernel, KernelError, Value

OPTIONS = {"enable_fp_fusion": False, "maxnreg": 255}
"""Products and sums are fused where the kernel says so, so that backends agree. A thread may have all the
registers that there are: left alone, the assembler prefers spilling a few to having more than 128."""


def print_module(kernel: Kernel, limit: int = LIMIT, room: int | None = None, tf32: bool = False) -> str:
    """The source of a module with `launch(count, buffers…)`. The same kernel gives the same text.

    `limit` and `room` say when values go to a workspace, and how many (`workspace`); with `tf32` products in
    single precision may round their factors. Raises `KernelError` for a kernel that no module can be made of.
    """
    return _Module(fitted(printable(kernel), limit, room), tf32).text()


def printable(kernel: Kernel) -> Kernel:
    """The kernel itself, or with operations that Triton lacks expanded into those that it has."""
    if all(i.op in NATIVE for _, block in kernel.blocks() for i in block.walk()):
        return kernel
    from ndl.compiler.kernels.math import expand

    return expand(kernel)


class _Module:
    def __init__(self, kernel: Kernel, tf32: bool) -> None:
        self.kernel = kernel
        self.body = Body(kernel)
        self.body.arrays.rounding = "tf32" if tf32 and kernel.precision == "f32" else "ieee"
        self.values = self.body.values
        self.name = ascii_name(kernel.name) + "_kernel"
        self.plain = not has_arrays(kernel)
        given = [b for b in kernel.buffers if b.kind != "scratch"]
        self.buffers = list(map(Names().kept, (b.name for b in given)))
        self.sums = [name for b, name in zip(given, self.buffers) if b.kind == "sum"]
        self.rows = rows_of(kernel)
        self.pointers = [self.body.pointer(b.name) for b in kernel.buffers]
        if not kernel.buffers:
            raise KernelError(f"`{kernel.name}` has no buffers: nothing comes of it")

    def text(self) -> str:
        body = self.function()
        helpers = [self.values.precision.helper(h) for h in HELPERS if h in self.values.helpers]
        imports = ["import torch"] if self.rows or not self.kernel.even else []
        imports += ["import triton", "import triton.language as tl"]
        imports += ["from ndl.runtime.kernels.layouts import lane_by_lane"] if self.plain else []
        head = "\n".join([_doc(self.kernel.doc or self.kernel.name, 0), "", *imports, ""])
        return "\n\n".join([head, *helpers, body, self.launch(), self.about()])

    # ------------------------------------------------------------ the function

    def function(self) -> str:
        queue = [] if self.kernel.even else ["queue_ptr"]
        portion = ["portion"] if self.sums else []
        arguments = ", ".join(["count", *queue, *self.pointers, *portion, "BLOCK: tl.constexpr"])
        self.body.line("lanes = tl.arange(0, BLOCK)")
        self.body.line("stride = count.to(tl.int64)")
        if self.rows:
            work = self.body.pointer(WORK)
            self.body.line(f"{DESK} = {work} + tl.program_id(0).to(tl.int64) * ({self.rows} * BLOCK) + lanes")
        self.body.block(self.kernel.entry)
        if any(v in self.values.varying for i in self.kernel.entry.body for v in i.results):
            raise KernelError(f"`entry` of `{self.kernel.name}` holds what trajectories do not share")
        self.even() if self.kernel.even else self.refilled()
        for line in self.body.arrays.after:
            self.body.line(line)
        constants = [f"{PAD}{name} = {made}" for made, name in self.values.constants.items()]
        constants += [f"{PAD}{line}" for line in self.body.arrays.before]
        head = f'@triton.jit(do_not_specialize=["count"])\ndef {self.name}({arguments}):'
        return "\n".join([head, *constants, *self.body.lines]) + "\n"

    def carried(self) -> tuple[Value, ...]:
        """What a trajectory carries, under its names in the step and at the end."""
        k = self.kernel
        named = list(k.carried) + [""] * len(k.step.params)
        for wanted, here, end in zip(named, k.step.params, k.finish.params):
            names = self.values.names
            name = names.kept(wanted) if wanted else names.numbered("s")
            self.values.set(here, name)
            self.values.set(end, name)
        for here, after in zip(k.step.params, k.step.yields):
            self.values.hints.setdefault(after, f"{self.values.expr(here).text}_next")
        return k.step.params

    def even(self) -> None:
        """Tiles from begin to finish: one a program, more where programs have memory of their own."""
        if not (self.sums or self.rows):
            self.one_tile("tl.program_id(0)")
            return
        self.body.line("tile = tl.program_id(0)")
        with self.body.indented("while tile * BLOCK < count:"):
            self.one_tile("tile")
            self.body.line("tile += tl.num_programs(0)")

    def one_tile(self, number: str) -> None:
        """Begin, steps while some lane wants one, finish."""
        k, body = self.kernel, self.body
        body.line(f"m = {number} * BLOCK + lanes")
        body.line("live = m < count")
        body.block(k.begin)
        carried = self.carried()
        body.carry(carried, k.begin.yields)
        body.line("busy = tl.full([], True, tl.int1)")
        with body.indented("while busy:"):
            body.block(k.step)
            done = k.step.yields[-1]
            ended = f"~{self.values.typed(done, 7)}"
            body.line(f"busy = {body.any(f'live & {ended}') if done in self.values.varying else ended}")
            body.carry(carried, k.step.yields[:-1])
        body.block(k.finish)

    def refilled(self) -> None:
        """Lanes take trajectories from the queue; at first all are done and hold none."""
        k, body = self.kernel, self.body
        carried = self.carried()
        body.line("m = tl.full([BLOCK], -1, tl.int32)")
        body.line("live = m < 0")
        body.line("done = live")
        for v in carried:
            name, type = self.values.expr(v).text, self.values.precision.type(v.type)
            body.line(f"{name} = tl.zeros([BLOCK], {type})")
        body.line(f"busy = {body.any('live')}")
        with body.indented("while busy:"):
            with body.indented(f"if {body.any('done')}:"):
                self.refill(carried)
            body.block(k.step)
            body.line(f"done = live & {self.values.typed(k.step.yields[-1], 4)}")
            body.carry(carried, k.step.yields[:-1])

    def refill(self, carried: tuple[Value, ...]) -> None:
        k, body = self.kernel, self.body
        body.line("ended = done & (m >= 0)")
        with body.masked("ended"):
            body.block(k.finish)
        body.line("rank = tl.cumsum(done.to(tl.int32), axis=0)")
        body.line('first = tl.atomic_add(queue_ptr, tl.max(rank, axis=0), sem="relaxed")')
        body.line("m = tl.where(done, first + rank - 1, m)")
        body.line("fresh = done & (m < count)")
        body.line("live = fresh | (live & ~done)")
        body.line(f"busy = {body.any('live')}")
        with body.masked("fresh"):
            body.block(k.begin)
            body.carry(carried, k.begin.yields, "fresh")

    # ------------------------------------------------------------ around it

    def launch(self) -> str:
        """A function that starts as many programs as there are tiles, or as shall share the queue."""
        first, limited = self.buffers[0], bool(self.rows) or not self.kernel.even
        options = ", ".join(f"{k}={v}" for k, v in OPTIONS.items())
        most = ["triton.cdiv(count, BLOCK)", *(f"{s}.shape[0]" for s in self.sums)]
        most += ["programs"] if limited else []
        given = ["count", *([] if self.kernel.even else ["queue"]), *self.buffers]
        given += [WORK] if self.rows else []
        given += [f"{self.sums[0]}.shape[1]"] if self.sums else []
        lines = [f"grid = min({', '.join(most)})" if len(most) > 1 else f"grid = {most[0]}"]
        if not self.kernel.even:
            lines.append(f"queue = torch.zeros(1, dtype=torch.int32, device={first}.device)")
        if self.rows:
            real = self.values.precision.real.replace("tl", "torch")
            size = f"grid * BLOCK * {self.rows}"
            lines.append(f"{WORK} = torch.empty({size}, dtype={real}, device={first}.device)")
        call = [f"{self.name}[(grid,)](", f"{PAD}{', '.join(given)},"]
        call += [f"{PAD}BLOCK=BLOCK, num_warps=num_warps, num_stages=num_stages, {options}", ")"]
        if self.plain:
            call = ["with lane_by_lane():", *(PAD + line for line in call)]
        block, warps = TILES[0] if not self.plain else (32, 1)
        tile = f"{'programs=4096, ' if limited else ''}BLOCK={block}, num_warps={warps}, num_stages=1"
        head = f"def launch(count, {', '.join(self.buffers)}, *, {tile}):"
        about = _doc("Run `count` trajectories over these buffers.", 1)
        body = [f"{PAD}if count > 0:", *(2 * PAD + line for line in [*lines, *call])]
        return "\n".join([head, about, *body]) + "\n"

    def about(self) -> str:
        given = [b for b in self.kernel.buffers if b.kind != "scratch"]
        rows = [f"{PAD}{(b.name, b.kind, b.mode, b.type)!r},".replace("'", '"') for b in given]
        tiles = [] if self.plain else [f"TILES = {TILES!r}"]
        return "\n".join(
            [
                f'PRECISION = "{self.kernel.precision}"',
                f"EVEN = {self.kernel.even}",
                f"WORKSPACE = {self.rows}",
                f"KERNEL = {self.name}",
                *tiles,
                "BUFFERS = (",
                *rows,
                ")",
                '"""What `launch` takes, in order: name, kind, mode and type."""\n',
            ]
        )


def _doc(text: str, depth: int) -> str:
    pad = PAD * depth
    safe = text.strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    lines = [f"{pad}{line.rstrip()}".rstrip() for line in safe.splitlines()]
    quoted = "\n".join(lines).lstrip()
    end = f"\n{pad}" if len(lines) > 1 or quoted.endswith('"') else ""
    return f'{pad}"""{quoted}{end}"""'
