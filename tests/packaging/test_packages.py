"""The build takes every package and data file along: what works in a checkout works installed."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = {"ndl": "ndl", "compiler": "ndl.compiler", "runtime": "ndl.runtime", "stdlib": "ndl.stdlib"}
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def package_of(folder: Path) -> str:
    """`compiler/ops` as `ndl.compiler.ops`."""
    first, *rest = folder.relative_to(ROOT).parts
    return ".".join([HOME[first], *rest])


def folders() -> list[Path]:
    found = []
    for top in HOME:
        found += [ROOT / top, *(p for p in (ROOT / top).rglob("*") if p.is_dir())]
    return [p for p in found if "__pycache__" not in p.parts]


def test_every_folder_of_modules_is_a_package() -> None:
    holding = {package_of(f) for f in folders() if any(f.glob("*.py"))}
    assert holding == set(SETTINGS["packages"])


def test_every_data_file_is_taken_along() -> None:
    taken = SETTINGS["package-data"]
    for folder in folders():
        for file in folder.iterdir():
            if file.is_dir() or file.suffix in (".py", ".pyc"):
                continue
            owner = folder
            while package_of(owner) not in SETTINGS["packages"]:
                owner = owner.parent
            inside = file.relative_to(owner).as_posix()
            patterns = taken.get(package_of(owner), [])
            assert any(fnmatch.fnmatch(inside, p) for p in patterns), f"{package_of(owner)}: {inside}"
