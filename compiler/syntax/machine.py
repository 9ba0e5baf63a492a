"""The LALR(1) machine: tokens in, the builder's values out, and recovery at the next line.

A WORD is a keyword when the state expects it, else a NAME: this is contextual lexing with one rule.
After an error the machine unwinds to the innermost place where a broken line may stand (the
grammar's `broken`), skips to the end of the logical line and goes on, so that each line has its own
errors. Nothing here recurses, whatever the depth of the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ndl.compiler.syntax.tables import END, NOTHING, Tables
from ndl.compiler.syntax.tokens import Token, words

MAX_DEPTH = 200  # operations inside each other: later phases recurse over the tree
DEEPENING = words(
    """binary power unary not and or lambda conditional every compare interval call attribute index
    list comprehension dict set_builder tuple single restrict slice value_tuple value_except
    map_type on_type type_group"""
)

Action = Callable[[tuple[int, int], list[Any]], Any]
Complaint = Callable[[list[Token], int, Callable[[], frozenset[str]]], None]


class Machine:
    """Runs one parse. `unexpected(tokens, index, expected)` and `too_deep(token)` report errors."""

    def __init__(
        self,
        tables: Tables,
        actions: dict[str, Action],
        unexpected: Complaint,
        too_deep: Callable[[int, Token], None],
    ) -> None:
        self.tables, self.actions = tables, actions
        self.unexpected, self.too_deep = unexpected, too_deep
        self.states: list[int] = []
        self.values: list[Any] = []
        self.spans: list[tuple[int, int]] = []
        self.depths: list[int] = []

    def run(self, tokens: list[Token], start: str) -> Any:
        """The value of the start symbol, or None when nothing could be recovered."""
        rows, gotos, passing = self.tables.actions, self.tables.gotos, self.tables.passing
        self.states, end_state = [self.tables.start[start]], self.tables.end[start]
        states, at, deep = self.states, 0, -1
        while True:
            token = tokens[at]
            row = rows[states[-1]]
            kind = token.kind
            if kind == "WORD":
                kind = token.text if not token.data and token.text in row else "NAME"
            code = row.get(kind)
            if code is None:
                self.unexpected(tokens, at, self.expected)
                at = self.recover(tokens, at)
                if at < 0:
                    return None
            elif code >= 0:
                self.push(code, token, (token.start, token.end), 0)
                at += 1
            elif code in passing:
                states.pop()
                states.append(gotos[states[-1]][passing[code]])
            else:
                self.reduce(~code, token)
                if self.depths[-1] > MAX_DEPTH:
                    if deep != token.row:
                        self.too_deep(self.spans[-1][0], token)
                    deep = token.row
                    at = self.recover(tokens, at)
                    if at < 0:
                        return None
                elif kind == END and states[-1] == end_state:
                    return self.values[-1]

    def expected(self) -> frozenset[str]:
        """What could follow here: of the tokens in the table those that no later state refuses."""
        return frozenset(kind for kind in self.tables.actions[self.states[-1]] if self.can_shift(kind))

    def push(self, state: int, value: Any, span: tuple[int, int], depth: int) -> None:
        self.states.append(state)
        self.values.append(value)
        self.spans.append(span)
        self.depths.append(depth)

    def reduce(self, number: int, ahead: Token) -> None:
        """Replace the symbols of a production by what its action makes of them."""
        rule = self.tables.rules[number]
        size, depth = rule.size, 0
        value: Any
        values: list[Any] = []
        span = (ahead.start, ahead.start)
        if size:
            values = self.values[-size:]
            span = (self.spans[-size][0], self.spans[-1][1])
            depth = max(self.depths[-size:])
            del self.states[-size:], self.values[-size:], self.spans[-size:], self.depths[-size:]
        value = children(rule.plan, values)
        if rule.action is None:
            value = value[0]
        elif rule.origin[0] != "_":
            value = self.actions[rule.action](span, value)
            depth += rule.action in DEEPENING
        self.push(self.tables.gotos[self.states[-1]][rule.origin], value, span, depth)

    def recover(self, tokens: list[Token], at: int) -> int:
        """Unwind, put an ERROR for the rest of the line; the index of the line's end, -1 if hopeless."""
        token = tokens[at]
        while self.states and not self.can_shift("ERROR"):
            self.states.pop()
            if self.values:
                self.values.pop()
                self.spans.pop()
                self.depths.pop()
        if not self.states or token.kind in (END, "_INDENT", "_DEDENT"):
            return -1
        error = Token("ERROR", "", token.start, token.start, token.row)
        while (code := self.tables.actions[self.states[-1]]["ERROR"]) < 0:
            self.reduce(~code, error)
        self.push(code, error, (token.start, token.start), 0)
        while tokens[at].kind != "_NL":
            at += 1
        return at

    def can_shift(self, kind: str) -> bool:
        """Whether a token would be shifted from here, after the reductions that it causes."""
        states = self.states[-64:]
        complete = len(states) == len(self.states)
        while (code := self.tables.actions[states[-1]].get(kind)) is not None:
            if code >= 0:
                return True
            rule = self.tables.rules[~code]
            if rule.size >= len(states):
                if complete:
                    return False
                states, complete = list(self.states[: len(self.states) - 64]) + states, True
            if rule.size:
                del states[-rule.size :]
            states.append(self.tables.gotos[states[-1]][rule.origin])
        return False


def children(plan: tuple[int, ...], values: list[Any]) -> list[Any]:
    """What a plan picks; a list at the head of a repetition is extended in place."""
    if plan and plan[0] < 0:
        picked: list[Any] = values[~plan[0]]
        rest = plan[1:]
    else:
        picked, rest = [], plan
    for entry in rest:
        if entry == NOTHING:
            picked.append(None)
        elif entry >= 0:
            picked.append(values[entry])
        else:
            picked.extend(values[~entry])
    return picked
