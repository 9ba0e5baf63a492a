"""Names in sight: a chain of scopes, each a table with a parent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Deferred:
    """A name whose value is worked out when it is first wanted."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.done = False
        self.value: Any = None

    def get(self) -> Any:
        if not self.done:
            self.value, self.done = self.make(), True
        return self.value


Lookup = Callable[[str, int], Any]


class Scope:
    """A table of names with a parent. `lazy` answers for names that are worked out on demand (a
    model's, whose statements stand in any order); it returns None for a name that it does not have.

    `turns` tells apart the turns of enclosing `for` loops, so that each has weights of its own. `advice` is
    the hint for a name that is nowhere, where only few make sense.
    """

    def __init__(
        self,
        parent: Scope | None = None,
        names: Mapping[str, Any] | None = None,
        lazy: Lookup | None = None,
        known: Callable[[], Iterator[str]] | None = None,
        turns: tuple[Any, ...] | None = None,
        advice: Callable[[str], str | None] | None = None,
    ) -> None:
        self.parent = parent
        self.names: dict[str, Any] = dict(names or {})
        self.lazy = lazy
        self.known = known
        self.advice = advice
        self.turns: tuple[Any, ...] = turns if turns is not None else (parent.turns if parent else ())

    def find(self, name: str, primes: int = 0) -> Any:
        """The value of a name, or None when it is nowhere."""
        scope: Scope | None = self
        while scope is not None:
            if primes == 0 and name in scope.names:
                found = scope.names[name]
                return found.get() if isinstance(found, Deferred) else found
            if scope.lazy is not None:
                found = scope.lazy(name, primes)
                if found is not None:
                    return found
            scope = scope.parent
        return None

    def all_names(self) -> list[str]:
        """Every name in sight, for suggestions."""
        found: list[str] = []
        scope: Scope | None = self
        while scope is not None:
            found.extend(scope.names)
            if scope.known is not None:
                found.extend(scope.known())
            scope = scope.parent
        return found

    def child(self, names: Mapping[str, Any] | None = None, turn: Any = None) -> Scope:
        turns = self.turns if turn is None else (*self.turns, turn)
        return Scope(self, names, turns=turns)
