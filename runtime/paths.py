"""Which files a program may read and write.

A program reads below its *project*, and writes below its own folder. The project is the nearest folder
at or above the file's own that holds one of `MARKERS`; without a marker, it is the folder two levels above
the file's own. It never is, or holds, the user's home folder or the root of the file system: then the
climb stops one level below. Hidden folders (`.git`, `.ssh`) are not part of a project. Links are followed
before a path is judged. Whatever else a program names must be allowed by `--allow-path`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ndl.runtime.errors import PathError

MARKERS = ("ndl.toml", "pyproject.toml", ".git")
LEVELS = 2


def project_root(folder: Path) -> Path:
    """The project of a file in `folder` (resolved), as the module's docstring defines it."""
    home = Path(os.path.expanduser("~")).resolve()
    barred = {home, *home.parents}
    chain = [folder]
    for parent in folder.parents:
        if parent in barred or parent == parent.parent:
            break
        chain.append(parent)
    if folder in barred:
        return folder
    for place in chain:
        if any((place / marker).exists() for marker in MARKERS):
            return place
    return chain[min(LEVELS, len(chain) - 1)]


@dataclass(frozen=True)
class PathPolicy:
    """`base` resolves relative names; `readable` and `writable` are resolved folders (or single files)."""

    base: Path
    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    allowed: tuple[Path, ...] = ()

    @staticmethod
    def for_file(file: str | os.PathLike[str], allow: Sequence[str | os.PathLike[str]] = ()) -> PathPolicy:
        """The policy of a program: what it may read and write, plus what `--allow-path` adds to both."""
        folder = Path(file).resolve().parent
        extra = tuple(Path(os.path.expanduser(a)).resolve() for a in allow)
        return PathPolicy(folder, (project_root(folder),), (folder,), extra)

    @staticmethod
    def below(root: str | os.PathLike[str], allow: Sequence[str | os.PathLike[str]] = ()) -> PathPolicy:
        """Reading and writing below one folder only."""
        folder = Path(root).resolve()
        return PathPolicy(folder, (folder,), (folder,), tuple(Path(a).resolve() for a in allow))

    def read(self, name: str) -> Path:
        """The resolved file that `name` means, or a `PathError`."""
        return self._admit(name, self.readable, "read")

    def write(self, name: str) -> Path:
        """The resolved place to write that `name` means, or a `PathError`."""
        return self._admit(name, self.writable, "write")

    def _admit(self, name: str, roots: tuple[Path, ...], verb: str) -> Path:
        if not name or "\0" in name:
            raise PathError(f"`{name!r}` is not the name of a file", help="name a file, such as `data.csv`")
        target = (self.base / name).resolve()
        if any(target == a or a in target.parents for a in self.allowed):
            return target
        for root in roots:
            if target == root or root in target.parents:
                inside = target.relative_to(root).parts
                hidden = [p for p in inside if p.startswith(".")]
                if not hidden:
                    return target
                raise PathError(
                    f"`{name}` is in the hidden folder or file `{hidden[0]}`, which a program may not {verb}",
                    help=f"if you trust the program, run it with `--allow-path {target}`",
                )
        where = "its project" if verb == "read" else "its own folder"
        notes = [f"{where} is {' or '.join(str(r) for r in roots)}"]
        if str(target) != name and not Path(name).is_absolute():
            notes.append(f"`{name}` is {target}")
        elif str(target) != name:
            notes.append(f"`{name}` leads to {target}")
        raise PathError(
            f"`{name}` is outside of {where}, where a program may {verb}",
            notes=notes,
            help=f"if you trust the program, run it with `--allow-path {target}`",
        )
