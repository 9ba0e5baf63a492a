"""What checks but is lowered by later work ends in one clear error."""

from __future__ import annotations

from ndl.compiler.check.models import Elaboration
from ndl.compiler.diagnostics import fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree


def refuse(frame: Elaboration) -> None:
    """Raise for the first construct of a model that this version cannot run."""
    waiting = sorted(_waiting(frame), key=lambda w: w[1].start)
    if not waiting:
        return
    what, span = waiting[0]
    raise fail(
        "NDL490",
        f"{what} is not yet lowered",
        span,
        notes=("the language has it and the checker knows it, but this version cannot run it",),
        help="see the language reference for what runs today",
    )


def _waiting(frame: Elaboration) -> list[tuple[str, Span]]:
    p = frame.parts
    fields = [i for o in p.states.values() for i in o.values() if isinstance(i.type, tree.FieldType)]
    energies = () if fields else p.energies
    found = [("an energy of numbers", e.span) for e in energies]
    words = ("step", "use")
    found += [
        (f"the net `{n.name}` per {n.per}", n.span) for n in p.nets.values() if n.per not in (None, *words)
    ]
    items = [*p.consts.values(), *(i for o in p.states.values() for i in o.values())]
    found += [(f"`{i.name}` per {i.per}", i.span) for i in items if i.per is not None]
    found += [(f"`{i.name}` per {i.per}", i.span) for i in p.params.values() if i.per not in (None, *words)]
    for name in p.states:
        type_ = frame.state_type(name)
        if p.energies and type_ is not None and type_.kind == "C":
            found.append((f"an energy of the complex state `{name}`", p.energies[0].span))
    for name, noise in p.noises.items():
        if not isinstance(noise.law, tree.FieldType) and (
            not isinstance(noise.law, tree.TypeName) or noise.law.name != "wiener"
        ):
            found.append((f"the noise `{name}: {noise.law.span.text}`", noise.span))
    return found
