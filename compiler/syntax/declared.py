"""Guesses at what a broken declaration means: a constraint, a unit or a shape in another place."""

from __future__ import annotations

from ndl.compiler.diagnostics import Diagnostic
from ndl.compiler.syntax.late import BOUNDS, MISPLACED
from ndl.compiler.syntax.stumble import Stumble, clip

DECLARING = frozenset(["param", "state", "const", "input"])


def late_bound(s: Stumble) -> Diagnostic | None:
    """`param a: R > 0 = 1`, `param a > 0 < 5 = 1`, `param 0 < a < 5 = 1`."""
    if s.first.text not in DECLARING or not s.row:
        return None
    signs = {k.kind for k in s.row}
    bounded = not signs.isdisjoint(BOUNDS)
    if len(s.row) > 1 and s.token.kind in BOUNDS and (bounded or not signs.isdisjoint(":,")):
        message = "a declaration has one constraint" if bounded else MISPLACED
    elif len(s.row) == 1 and s.token.kind == "NUMBER" and s.following and s.following[0].kind in BOUNDS:
        message = MISPLACED
    else:
        return None
    name = s.row[1] if len(s.row) > 1 else s.following[1] if len(s.following) > 1 else s.first
    advice = f"`{s.first.text} {clip(name)} in lo..hi = value` bounds both sides, `> 0` or `< 1` one"
    return Diagnostic("NDL120", message, s.span(), help=advice)


def elsewhere(s: Stumble) -> Diagnostic | None:
    """Declarations, events and conditions in the manner of other languages."""
    word, row = s.first.text, len(s.row)
    name = clip(s.row[1]) if row > 1 else "x"
    advice = None
    if word in DECLARING and row == 2:
        advice = {
            "(": f"write `{word} {name} = …`; where it is a function of space, `{word} {name}: R on Rod = …`",
            "[": f"a shape stands in the type, `{word} {name}: R[2]`, and a unit too, `R{{m/s}}`",
            "{": f"a unit stands in the type: `{word} {name}: R{{m/s}} = …`",
            "on": f"a domain stands in the type: `{word} {name}: R on Rod = …`",
        }.get(s.token.text)
    elif word in DECLARING and row == 3 and s.row[2].kind == ":" and s.token.kind in ("NUMBER", "STRING"):
        advice = f"a value follows `=`: `{word} {name} = {clip(s.token)}`"
    elif word == "domain" and row == 2 and not s.ends:
        advice = f"write `domain {name} = interval(x in 0..1)`"
    elif word == "noise" and row == 2:
        advice = f"write `noise {name}: wiener`"
    elif word == "on" and row == 2 and s.token.kind in ("=", "=="):
        advice = "write `on left(Rod): u = 0`, `on right(Rod): …` or `on boundary(Rod): …`"
    elif word == "when" and s.token.kind == "=" and row == 2:
        advice = f"an event is `when falling({name})`, `rising(…)` or `crossing(…)`"
    return Diagnostic("NDL100", f"{s.shown} cannot stand here", s.span(), help=advice) if advice else None
