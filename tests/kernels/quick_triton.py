"""Triton's interpreter without the work that it does over and over again.

For each call of a function it patches `triton.language` anew, and for each operation it makes types and
shapes that are like those before; together most of its time. What operations compute is left as it is.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from triton import language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter


def hasten() -> None:
    """From here on, in a process that interprets all its kernels."""
    interpreter._patch_lang = _patched_once(interpreter._patch_lang)
    interpreter.InterpreterBuilder.get_block_ty = lambda self, dtype, shape: _block(dtype, *shape)
    interpreter._get_np_dtype = _by_name(interpreter._get_np_dtype)
    tl.core.block_type.with_element_ty = lambda self, scalar: _block(scalar, *self.shape)
    tl.core.tensor.__init__ = _made
    TritonSemantic.broadcast_impl_value = _broadcast(TritonSemantic.broadcast_impl_value)


def _patched_once(patch: Any) -> Any:
    """Modules of the language stay patched."""
    seen: set[frozenset[str]] = set()

    def patched(function: Any) -> Any:
        known = {"tl": tl, "core": tl.core}
        found = frozenset(n for n, m in known.items() if any(v is m for v in function.__globals__.values()))
        if found not in seen:
            seen.add(found)
            patch(function)
        return interpreter._LangPatchScope()

    return patched


_blocks: dict[tuple[Any, ...], Any] = {}


def _block(scalar: Any, *shape: int) -> Any:
    key = (scalar.name, *shape)  # types of pointers have no hash
    if key not in _blocks:
        _blocks[key] = tl.core.block_type(scalar, list(shape))
    return _blocks[key]


def _by_name(find: Any) -> Any:
    """A function of types, whose names say all."""
    known: dict[str, Any] = {}

    def found(type: Any) -> Any:
        if type.name not in known:
            known[type.name] = find(type)
        return known[type.name]

    return found


@cache
def _shape(*sizes: int) -> tuple[Any, Any]:
    """A shape and its product, as tensors have them."""
    return tl.core.tuple([tl.core.constexpr(s) for s in sizes]), tl.core.constexpr(math.prod(sizes))


def _made(self: Any, handle: Any, type: Any) -> None:
    self.handle, self.type, self.dtype = handle, type, type.scalar
    self.shape, self.numel = _shape(*(type.shape if type.is_block() else ()))


def _broadcast(general: Any) -> Any:
    """Operands of one shape stay as they are."""

    def broadcast(self: Any, a: Any, b: Any) -> Any:
        known = a.shape is b.shape and a.type.is_block()
        return (a, b) if known else general(self, a, b)

    return broadcast
