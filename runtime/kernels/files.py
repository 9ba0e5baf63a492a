"""Where generated kernels are kept: files named by what is in them, in a folder of the user's."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from ndl.runtime.atomic import write_text


def folder() -> Path:
    """`NDL_CACHE_DIR`, else `ndl` in `XDG_CACHE_HOME`, else in `~/.cache`."""
    if own := os.environ.get("NDL_CACHE_DIR"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared and Path(shared).is_absolute() else Path.home() / ".cache") / "ndl"


def digest(text: str) -> str:
    """What a text is known by."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def kept(text: str, kind: str, suffix: str) -> Path:
    """The file that holds a text, written if need be.

    Any number of processes may do so at once: each replaces the file as a whole, by the same text. A folder
    that cannot be written to is replaced by one of this run's.
    """
    name = f"{digest(text)}{suffix}"
    path = folder() / kind / name
    try:
        if not (path.is_file() and path.read_bytes() == text.encode()):
            write_text(path, text)
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="ndl-")) / name
        write_text(path, text)
    return path
