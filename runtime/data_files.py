"""Readers of table files, one for each ending; nothing here unpickles or evaluates what a file holds."""

from __future__ import annotations

import csv
import math
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import DataError
from torch import Tensor

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", ".", "?"})
DELIMITERS = ",;\t|"


class Raw(ABC):
    """A file's columns, converted to float64 only when one is asked for."""

    names: list[str]

    @abstractmethod
    def column(self, name: str) -> Tensor:
        """float64 [rows, ...], NaN where missing."""

    def row(self, k: int) -> str:
        """How to name row k (from 0) to the user."""
        return f"row {k + 1}"


class CSV(Raw):
    """Text with a header; `,`, `;`, tab or `|` between cells, whichever the header has most of."""

    def __init__(self, file: Path, name: str) -> None:
        self.name = name
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"`{name}` is not UTF-8 text (byte {error.start})", help="save it as CSV in UTF-8"
            ) from error
        lines = text.splitlines()
        head = next((k for k, line in enumerate(lines) if line.strip() and line[0] != "#"), None)
        if head is None:
            raise DataError(f"`{name}` is empty", help="its first line names the columns")
        delimiter = max(DELIMITERS, key=lambda d: lines[head].count(d))
        reader = csv.reader(lines[head:], delimiter=delimiter, skipinitialspace=True, strict=True)
        self.cells: list[list[str]] = []
        self.lines: list[int] = []
        try:
            self.names = [c.strip() for c in next(reader)]
            for cells in reader:
                if any(c.strip() for c in cells) and not cells[0].startswith("#"):
                    self.cells.append(cells)
                    self.lines.append(head + reader.line_num)
        except csv.Error as error:
            raise DataError(f"line {head + reader.line_num} of `{name}` is not CSV: {error}") from error
        twice = next((c for k, c in enumerate(self.names) if c in self.names[:k]), None)
        if twice is not None:
            raise DataError(f"`{name}` has two columns called `{twice}`", code="NDL611")
        if not self.cells:
            raise DataError(f"`{name}` has a header but no rows")
        for cells, line in zip(self.cells, self.lines):
            if len(cells) != len(self.names):
                raise DataError(
                    f"line {line} of `{name}` has {len(cells)} cells, but the header has {len(self.names)}",
                    code="NDL612",
                )

    def column(self, name: str) -> Tensor:
        k = self.names.index(name)
        values = [self._number(cells[k], line, name) for cells, line in zip(self.cells, self.lines)]
        return torch.tensor(values, dtype=torch.float64)

    def row(self, k: int) -> str:
        return f"line {self.lines[k]}"

    def _number(self, cell: str, line: int, column: str) -> float:
        text = cell.strip()
        if text.lower() in MISSING:
            return math.nan
        try:
            return float(text)
        except ValueError:
            help = "write numbers with a point" if "," in text else "leave the cell empty if it is missing"
            raise DataError(
                f"`{text}` in line {line}, column `{column}` of `{self.name}` is not a number",
                code="NDL612",
                help=help,
            ) from None


class NPZ(Raw):
    """NumPy's archive of arrays. Pickled objects are refused: reading one would run code of the file."""

    def __init__(self, file: Path, name: str) -> None:
        self.name = name
        try:
            loaded = np.load(file, allow_pickle=False)
        except (ValueError, zipfile.BadZipFile, EOFError) as error:
            raise DataError(f"`{name}` is not an NPZ archive of arrays: {error}") from error
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"`{name}` is one array, not an NPZ archive", help="save it by `numpy.savez`")
        self.archive = loaded
        self.names = list(loaded.files)
        if not self.names:
            raise DataError(f"`{name}` is empty")

    def column(self, name: str) -> Tensor:
        try:
            array = self.archive[name]
        except (ValueError, zipfile.BadZipFile, EOFError, OSError) as error:
            why = "holds Python objects" if "pickle" in str(error).lower() else f"is damaged ({error})"
            raise DataError(
                f"the array `{name}` of `{self.name}` {why}",
                code="NDL612",
                help="NDL reads arrays of numbers only: save them with a numeric dtype",
            ) from error
        return _numeric(array, name, self.name)


class Parquet(Raw):
    """Apache Parquet, through the optional pyarrow."""

    def __init__(self, file: Path, name: str) -> None:
        self.name = name
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise DataError(
                f"`{name}` is a Parquet file, which needs the extra `parquet`",
                code="NDL614",
                help='pip install "ndl-lang[parquet]"',
            ) from error
        try:
            self.table: Any = parquet.read_table(file)
        except pyarrow.ArrowException as error:
            raise DataError(f"`{name}` is not a Parquet file: {error}") from error
        self.names = list(self.table.column_names)
        if self.table.num_rows == 0:
            raise DataError(f"`{name}` has no rows")

    def column(self, name: str) -> Tensor:
        column = self.table.column(name)
        values = column.to_pylist()
        for k, v in enumerate(values):
            if v is not None and not isinstance(v, int | float):
                raise DataError(
                    f"`{v}` in row {k + 1}, column `{name}` of `{self.name}` is not a number", code="NDL612"
                )
        return torch.tensor([math.nan if v is None else float(v) for v in values], dtype=torch.float64)


def _numeric(array: np.ndarray[Any, Any], column: str, name: str) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"the array `{column}` of `{name}` has dtype {array.dtype}, not numbers", code="NDL612"
        )
    return torch.from_numpy(np.ascontiguousarray(array.astype(np.float64)).copy())


READERS: dict[str, Callable[[Path, str], Raw]] = {
    ".csv": CSV,
    ".tsv": CSV,
    ".txt": CSV,
    ".npz": NPZ,
    ".parquet": Parquet,
    ".pq": Parquet,
}
