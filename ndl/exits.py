"""Exit codes of the command line; `docs/cli.md` lists them."""

from __future__ import annotations

OK = 0
DIAGNOSTICS = 1  # a file has errors, a test failed, `fmt --check` found something to do
USAGE = 2  # the command line itself is wrong
RUN_FAILED = 3  # the file is fine, but a solve, a fit or its data failed (NDL6xx)
INTERNAL = 4  # a bug of ours (NDL9xx)
INTERRUPTED = 130  # Ctrl-C
