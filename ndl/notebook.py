"""The notebook: `%load_ext ndl.notebook`, then cells that begin with `%%ndl`.

A cell's models become names of the notebook, and so does the program, as `program` or under the name
that the magic's line gives: `%%ndl decay`. `%%ndl --run` also runs its solve and train blocks and shows
the results.
"""

from __future__ import annotations

from typing import Any


def ndl_cell(shell: Any, line: str, cell: str) -> Any:
    """The magic itself; `shell` has `push(names)`. Diagnostics are printed, not raised."""
    from ndl.api import loads
    from ndl.compiler.diagnostics import NDLError

    words = line.split()
    wants_run = "--run" in words
    name = next((w for w in words if not w.startswith("-")), "program")
    try:
        program = loads(cell)
        shell.push({**program.models, name: program})
        return program.run(None) if wants_run else None
    except NDLError as error:
        print(error)
        return None


def load_ipython_extension(ipython: Any) -> None:
    """Called by `%load_ext ndl.notebook`."""
    ipython.register_magic_function(lambda line, cell: ndl_cell(ipython, line, cell), "cell", "ndl")
