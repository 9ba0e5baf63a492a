"""The edge: what an exception that reached it means to a user.

What the runtime refuses or fails with becomes a diagnostic of its own code. Anything else is our
bug: an exception that nobody foresaw becomes an NDL901 that names a reproducer file.

The reproducer holds the command, versions, the traceback and the text of the `.ndl` files that
were named on the command line, and nothing else of the machine.
"""

from __future__ import annotations

import hashlib
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from ndl.compiler.diagnostics import Diagnostic
from ndl.compiler.source import NO_SPAN

INTERRUPTED_CODE = "NDL631"


def diagnose(error: BaseException, args: Sequence[str]) -> Diagnostic:
    """The diagnostic of any exception; `args` is the command line, for the reproducer."""
    # Looked up rather than imported: `ndl check` has no need of the runtime.
    known = getattr(sys.modules.get("ndl.runtime.errors"), "RunError", None)
    if known is not None and isinstance(error, known):
        return Diagnostic(error.code, error.message, NO_SPAN, notes=tuple(error.notes), help=error.help)
    return report(error, args)


def report(error: BaseException, args: Sequence[str]) -> Diagnostic:
    """Write the reproducer and return the diagnostic that asks for it."""
    text = reproducer(error, args)
    name = f"ndl-crash-{hashlib.sha256(text.encode()).hexdigest()[:10]}.txt"
    where: Path | None = None
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        try:
            (folder / name).write_text(text, encoding="utf-8")
            where = folder / name
            break
        except OSError:
            continue
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    kept = f"what happened and the model are in {where}" if where else "it could not be written to a file"
    code = str(getattr(error, "code", "NDL901"))  # the compiler's own `InternalError` has one
    return Diagnostic(
        code if code.startswith("NDL9") else "NDL901",
        f"an internal error in NDL ({reason})",
        NO_SPAN,
        notes=("this is a bug in NDL, not in your model", kept),
        help="please send that file with your report; remove from it what is confidential",
    )


def reproducer(error: BaseException, args: Sequence[str]) -> str:
    """The text of a reproducer: versions, command, traceback, files."""
    from ndl import __version__

    parts = [
        f"ndl {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        f"command: ndl {' '.join(args)}",
        "".join(traceback.format_exception(error)[-40:]),
    ]
    for arg in args:
        path = Path(arg)
        if path.suffix == ".ndl" and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            parts.append(f"---- {path.name}\n{text[:100_000]}")
    return "\n\n".join(parts)
