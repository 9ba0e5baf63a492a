"""Neighbouring maps as one, and code that nothing needs left out.

A map joins an earlier one of the same extent when all that it reads was there before that one: an array
between them is then read while it is in a register, and not written where nobody else wants it.
"""

from __future__ import annotations

from dataclasses import replace

from ndl.compiler.kernels.ir import Block, Instr, Kernel, Value

EFFECTS = ("store", "outer", "accumulate", "keep", "while", "when")
"""What is done for more than its results."""


def fuse(kernel: Kernel) -> Kernel:
    """The same kernel with its maps joined."""
    if not any(i.op == "map" for _, block in kernel.blocks() for i in block.walk()):
        return kernel
    begin, step, finish = _block(kernel.begin), _block(kernel.step), _block(kernel.finish)
    return replace(kernel, begin=begin, step=step, finish=finish)


def _block(block: Block) -> Block:
    body = [
        replace(i, regions=tuple(_block(r) for r in i.regions)) if i.op in ("while", "when") else i
        for i in block.body
    ]
    return _pruned(Block(block.params, _joined(body), block.yields))


def _joined(body: list[Instr]) -> list[Instr]:
    """Each map joined to the last map that gives one of its arguments, where that is the last of them."""
    free = [i for i in body if i.op in ("const", "row")]  # at hand from the start
    found: list[Instr] = list(free)
    place: dict[Value, int] = {}
    for instr in (i for i in body if i.op not in ("const", "row")):
        at = max((place.get(a, -1) for a in instr.args), default=-1)
        before = found[at] if at >= 0 else None
        if (
            instr.op == "map" and before is not None and before.op == "map"
            and before.results[0].type == instr.results[0].type
        ):  # fmt: skip
            found[at] = _both(before, instr)
            place.update((r, at) for r in instr.results)
            continue
        found.append(instr)
        place.update((r, len(found) - 1) for r in instr.results)
    return found


def _both(first: Instr, second: Instr) -> Instr:
    """One map with the results of both."""
    a, b = first.regions[0], second.regions[0]
    inside = dict(zip(first.results, a.yields))
    inside |= {arg: param for arg, param in zip(first.args, a.params) if arg not in inside}
    args, params, at = list(first.args), list(a.params), {}
    for arg, param in zip(second.args, b.params):
        if arg in inside:
            at[param] = inside[arg]
        else:
            args.append(arg)
            params.append(param)
            inside[arg] = param
    body = [replace(i, args=tuple(at.get(v, v) for v in i.args)) for i in b.body]
    yields = (*a.yields, *(at.get(y, y) for y in b.yields))
    region = Block(tuple(params), [*a.body, *body], yields)
    results = (*first.results, *second.results)
    return Instr("map", tuple(args), results, regions=(region,), origin=first.origin or second.origin)


def _pruned(block: Block) -> Block:
    """Without what nothing needs."""
    needed = set(block.yields)
    kept: list[Instr] = []
    for instr in reversed(block.body):
        if instr.op not in EFFECTS and not any(r in needed for r in instr.results):
            continue
        if instr.op == "map":
            instr = _narrow(instr, needed)
        inner = [i for r in instr.regions for i in r.walk()]
        needed |= {a for i in (instr, *inner) for a in i.args}
        needed |= {y for r in instr.regions for y in r.yields}
        needed |= {y for i in inner for r in i.regions for y in r.yields}
        kept.append(instr)
    return Block(block.params, kept[::-1], block.yields)


def _narrow(instr: Instr, needed: set[Value]) -> Instr:
    """A map with the results, code and arguments that are needed."""
    region = instr.regions[0]
    wanted = [(r, y) for r, y in zip(instr.results, region.yields) if r in needed]
    inside = _pruned(Block((), region.body, tuple(y for _, y in wanted)))
    used = {a for i in inside.body for a in i.args} | set(inside.yields)
    given = [(a, p) for a, p in zip(instr.args, region.params) if p in used]
    block = Block(tuple(p for _, p in given), inside.body, inside.yields)
    return replace(
        instr, args=tuple(a for a, _ in given), results=tuple(r for r, _ in wanted), regions=(block,)
    )
