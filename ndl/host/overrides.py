"""Settings replaced from outside: `--set sweep.method.rtol=1e-9`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.source import NO_SPAN, Source, Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.parser import parse_expression

Settings = dict[str, tuple[tree.Expr, Span]]


def overridden(settings: Settings, name: str, overrides: Mapping[str, str]) -> Settings:
    """The settings of the run `name` with overrides `name.setting[.option] = text` applied."""
    found = dict(settings)
    for key, text in overrides.items():
        run, _, path = key.partition(".")
        if run != name or not path:
            continue
        value = read(key, str(text))
        setting, _, option = path.partition(".")
        if not option:
            found[setting] = (value, value.span)
            continue
        if setting not in found:
            raise fail("NDL516", f"`{name}` has no setting `{setting}` whose option could be set", NO_SPAN)
        found[setting] = (with_option(found[setting][0], option, value), found[setting][1])
    return found


@lru_cache(maxsize=256)
def read(key: str, text: str, flag: str = "--set ") -> tree.Expr:
    """The expression of an override; `flag` and `key` stand for its file in messages."""
    source = Source(f"{flag}{key}", text)
    expr, problems = parse_expression(source)
    if expr is None or problems:
        raise NDLError(problems) if problems else fail("NDL516", f"`{text}` is no value", NO_SPAN)
    return expr


def with_option(value: tree.Expr, option: str, new: tree.Expr) -> tree.Expr:
    """`tsit5(rtol=1e-6)` with another option, or with one more."""
    if isinstance(value, tree.Name):
        value = tree.Call(value.span, value, ())
    if not isinstance(value, tree.Call):
        raise fail("NDL516", f"`{value.span.text}` has no options", value.span)
    args = [a for a in value.args if a.name != option]
    return replace(value, args=(*args, tree.Arg(new.span, "keyword", option, new)))
