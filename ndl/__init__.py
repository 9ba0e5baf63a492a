"""NDL: a modelling language for what is both a differential equation and a neural network.

`load` reads a program, its models are classes, `solve` and `train` do what the blocks of the same
name do in a file. Everything is imported when first used: `import ndl` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ndl.api import load as load
    from ndl.api import loads as loads
    from ndl.api import solve as solve
    from ndl.api import train as train
    from ndl.compiler.diagnostics import Diagnostic as Diagnostic
    from ndl.compiler.diagnostics import NDLError as NDLError
    from ndl.host.failures import RunFailed as RunFailed
    from ndl.runtime.solution import Solution as Solution
    from ndl.session import Program as Program

__version__ = "0.1.0"

# In a checkout that is not installed, `ndl.compiler` and its like stand beside this folder, not in it.
_ROOT = Path(__file__).resolve().parents[1]
if not (_ROOT / "ndl" / "compiler").exists() and (_ROOT / "compiler" / "syntax" / "grammar.lark").exists():
    __path__.append(str(_ROOT))

_HOME = {
    "load": "ndl.api",
    "loads": "ndl.api",
    "solve": "ndl.api",
    "train": "ndl.api",
    "Program": "ndl.session",
    "NDLError": "ndl.compiler.diagnostics",
    "Diagnostic": "ndl.compiler.diagnostics",
    "RunFailed": "ndl.host.failures",
    "Solution": "ndl.runtime.solution",
}

__all__ = [
    "Diagnostic", "NDLError", "Program", "RunFailed", "Solution", "__version__", "load", "loads", "solve",
    "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ndl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
