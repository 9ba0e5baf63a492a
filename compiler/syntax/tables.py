"""The LALR(1) tables of `grammar.lark`: made by Lark in strict mode, shipped as `tables.json`.

Reading the shipped tables takes milliseconds and does not import Lark; `python -m
ndl.compiler.syntax.tables` writes them anew after a change of the grammar (a test compares). When
they do not belong to the grammar beside them they are made in memory.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GRAMMAR, SHIPPED = HERE / "grammar.lark", HERE / "tables.json"
STARTS = ("file", "expression")
END = "$END"
NOTHING = 100  # in a plan: an optional part that is absent


@dataclass(frozen=True, slots=True)
class Rule:
    """A production: `size` symbols become one `origin`, built by `action` from what `plan` picks.

    A plan's entry i >= 0 is the i-th value, ~i the i-th value's items in its place, NOTHING a None.
    `action` None hands on the only value; `_`-rules collect a list.
    """

    origin: str
    size: int
    plan: tuple[int, ...]
    action: str | None


@dataclass(frozen=True)
class Tables:
    """`actions[state][token]` is the next state, or ~rule to reduce; `gotos[state][origin]` a state."""

    actions: list[dict[str, int]]
    gotos: list[dict[str, int]]
    rules: list[Rule]
    start: dict[str, int]
    end: dict[str, int]
    passing: dict[int, str]  # ~rule → origin of the rules that only rename a value


@cache
def load() -> Tables:
    """The tables of the grammar, from the shipped file where that is current."""
    stored = json.loads(SHIPPED.read_text("utf-8")) if SHIPPED.exists() else {}
    if stored.get("grammar") != fingerprint():
        stored = generate()
    rules = [Rule(o, n, tuple(plan), action) for o, n, plan, action in stored["rules"]]
    rows = [dict(zip(keys, values)) for keys, values in stored["rows"]]
    actions, gotos = ([rows[i] for i in stored[part]] for part in ("actions", "gotos"))
    passing = {~i: rule.origin for i, rule in enumerate(rules) if rule.action is None and rule.size == 1}
    return Tables(actions, gotos, rules, stored["start"], stored["end"], passing)


def fingerprint() -> str:
    """Identifies the text of the grammar."""
    return hashlib.sha256(GRAMMAR.read_bytes()).hexdigest()


def generate() -> dict[str, Any]:
    """Let Lark analyse the grammar, and take from it what the parser needs, as plain JSON values."""
    from lark import Lark
    from lark.lexer import Lexer
    from lark.parsers.lalr_analysis import Shift

    class Unused(Lexer):
        def __init__(self, conf: Any) -> None:
            pass

        def lex(self, lexer_state: Any, parser_state: Any) -> Any:
            raise NotImplementedError("tokens come from `lexer.py`")

    lark = Lark(GRAMMAR.read_text("utf-8"), parser="lalr", lexer=Unused, strict=True, start=list(STARTS))
    table = lark.parser.parser._parse_table
    literal = {t.name: t.pattern.value for t in lark.terminals if t.pattern is not None}
    origins = {r.origin.name for r in lark.rules}
    rows: dict[str, int] = {}
    rules: dict[Any, int] = {}
    order = {table.start_states[s]: i for i, s in enumerate(STARTS)}  # states as the walk meets them
    queue, actions, gotos = list(order), [], []

    def row(entries: dict[str, int]) -> int:
        parts = [list(entries), list(entries.values())]
        return rows.setdefault(json.dumps(parts, ensure_ascii=False), len(rows))

    for state in queue:
        shifts: dict[str, int] = {}
        moves: dict[str, int] = {}
        for symbol, (kind, arg) in sorted(table.states[state].items()):
            if kind is Shift and arg not in order:
                order[arg] = len(order)
                queue.append(arg)
            code = order[arg] if kind is Shift else ~rules.setdefault(arg, len(rules))
            if symbol in origins:
                moves[symbol] = code
            else:
                shifts[literal.get(symbol, symbol)] = code
        actions.append(row(shifts))
        gotos.append(row(moves))
    return {
        "grammar": fingerprint(),
        "start": {s: order[table.start_states[s]] for s in STARTS},
        "end": {s: order[table.end_states[s]] for s in STARTS},
        "rules": [_rule(r) for r in rules],
        "rows": [json.loads(text) for text in rows],
        "actions": actions,
        "gotos": gotos,
    }


def _rule(rule: Any) -> list[Any]:
    """A production of Lark in the form of `Rule`: what is kept, inlined or absent among its symbols."""
    origin, options = rule.origin.name, rule.options
    absent = options.empty_indices or (False,) * len(rule.expansion)
    plan: list[int] = []
    at = 0
    for missing in absent:
        if missing:
            plan.append(NOTHING)
            continue
        symbol = rule.expansion[at]
        if not symbol.is_term and symbol.name.startswith("_"):
            plan.append(~at)
        elif options.keep_all_tokens or not (symbol.is_term and symbol.filter_out):
            plan.append(at)
        at += 1
    handed_on = options.expand1 and rule.alias is None and plan == [0]
    return [origin, len(rule.expansion), plan, None if handed_on else rule.alias or origin]


def write() -> None:
    """Renew the shipped tables."""
    stored = generate()
    lines = [f'"{k}": {json.dumps(stored[k])}' for k in ("grammar", "start", "end")]
    for key in ("rules", "rows"):
        items = ",\n".join(json.dumps(i, ensure_ascii=False, separators=(",", ":")) for i in stored[key])
        lines.append(f'"{key}": [\n{items}\n]')
    lines.extend(f'"{k}": {json.dumps(stored[k], separators=(",", ":"))}' for k in ("actions", "gotos"))
    SHIPPED.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    write()
