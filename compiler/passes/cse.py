"""Common subexpressions: equal operations on equal operands become one node."""

from __future__ import annotations

from ndl.compiler.ir.graph import Function
from ndl.compiler.passes.rewrite import Rewriter


def eliminate_common_subexpressions(function: Function) -> Function:
    """The rewriter hash-conses what it copies; the first name that a user gave a value is kept."""
    return Rewriter(function.graph).function(function)
