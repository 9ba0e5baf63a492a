"""The import hook: after `import ndl.hook`, `.ndl` files are Python modules.

`from mymodels.lotka import LotkaVolterra` finds `mymodels/lotka.ndl` on `sys.path`. The module has the
file's models by name and the program itself as `program`. Python's own modules of the same name win.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType


class NDLFinder(MetaPathFinder):
    """Finds `a/b.ndl` for `a.b`; a folder with `.ndl` files in it is a namespace package already."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        stem = fullname.rpartition(".")[2]
        for entry in path if path is not None else sys.path:
            file = Path(entry or ".") / f"{stem}.ndl"
            if file.is_file():
                return spec_from_file_location(fullname, file.resolve(), loader=NDLLoader(file.resolve()))
        return None


class NDLLoader(Loader):
    """Compiles the file and puts its models into the module. Raises NDLError with all diagnostics."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        from ndl.api import load

        program = load(self.file)
        module.__dict__.update(program.models)
        module.__dict__["program"] = program
        module.__dict__["__all__"] = sorted(program.models)


def install() -> None:
    """Add the finder behind Python's own, once."""
    if not any(isinstance(f, NDLFinder) for f in sys.meta_path):
        sys.meta_path.append(NDLFinder())


def uninstall() -> None:
    """Take the finder away; modules that are loaded stay."""
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, NDLFinder)]


install()
