"""Where a run leaves its results: `runs/<name>/<time>/`, made when the first file is written."""

from __future__ import annotations

from pathlib import Path


class RunFolder:
    """A folder that does not exist until something is written: a run that fails leaves nothing.

    `fixed` is used as it is; otherwise `path` is a new `<base>/<name>/<time>`.
    """

    def __init__(self, base: Path, name: str, *, fixed: bool = False) -> None:
        self._base, self._name, self._fixed = base, name, fixed
        self._made: Path | None = None

    @property
    def exists(self) -> bool:
        """Whether anything asked for the path."""
        return self._made is not None

    @property
    def path(self) -> Path:
        """The folder, made on first use."""
        if self._made is None:
            if self._fixed:
                self._base.mkdir(parents=True, exist_ok=True)
                self._made = self._base
            else:
                from ndl.runtime.results import new_run

                self._made = new_run(self._base, self._name)
        return self._made


def latest(base: Path, name: str) -> Path | None:
    """The newest folder of the runs of that name, for `--resume`."""
    parent = base / name
    found = [p for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
    return max(found, key=lambda p: (p.stat().st_mtime_ns, p.name), default=None)
