"""Sweeps over a grid as LLVM IR: rows in SIMD lanes, several steps in one pass over memory.

Steps follow each other row by row: as soon as a stage has the rows of its predecessor that it reads, it
writes its next one, into a ring of the few rows that are still needed. A pass of T steps so reads and writes
memory once. Near the ends of an axis stand other bodies, chosen per row, or done lane by lane after
the row's inside: no branch is taken inside.

The function is `void name(ptr from, ptr to, ptr rings, ptr slots, ptr coefficients, i64 first, i64 last,
i64 steps)`: rows [first, last) of one member by so many steps. `sweep_layout` says how rows stand in memory.
"""

from __future__ import annotations

from dataclasses import replace

from ndl.compiler.backends.llvm.sweep_carriers import CARRIERS, carried
from ndl.compiler.backends.llvm.sweep_driver import Driver
from ndl.compiler.backends.llvm.sweep_layout import block_of, layout_of, three
from ndl.compiler.backends.llvm.sweep_stages import Sheet, StagePrinter
from ndl.compiler.kernels.sweeps import Sweeps, expanded


def print_sweeps(sweeps: Sweeps, lanes: int) -> str:
    """The text of a module with the function `sweeps.name`."""
    layout = layout_of(sweeps, lanes)
    whole = three(sweeps)
    stages = tuple(
        replace(s, bodies={p: expanded(b, sweeps.precision) for p, b in s.bodies.items()})
        for s in whole.stages
    )
    sheet = Sheet(replace(whole, stages=stages), layout, block_of(whole))
    functions = [f for k in range(len(stages)) for f in _stage(sheet, k)]
    functions += [carried(layout, sheet.real, name, into) for name, into in CARRIERS]
    functions.append(Driver(sheet).function())
    return "\n\n".join([*functions, "\n".join([*sorted(sheet.declared.values()), "!0 = !{}"])]) + "\n"


def _stage(sheet: Sheet, number: int) -> list[str]:
    """A stage for each kind of slab, and for blocks of slabs inside."""
    stage = sheet.sweeps.stages[number]
    kinds = dict.fromkeys(p[0] for p in stage.bodies)
    found = [StagePrinter(sheet, number, stage, first, 1).function() for first in kinds]
    if sheet.block > 1:
        found.append(StagePrinter(sheet, number, stage, None, sheet.block).function())
    return found
