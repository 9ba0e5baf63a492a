"""Tables from files: values, missing cells, and refusals that say what is wrong and where."""

from __future__ import annotations

import builtins
import csv
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ndl.runtime.data import Table, table
from ndl.runtime.errors import DataError
from ndl.runtime.paths import PathPolicy

PELTS = Path(__file__).parents[1] / "data" / "lynx-hare.csv"


def write(folder: Path, text: str, name: str = "d.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(*args: Any, **kwargs: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        table(*args, **kwargs)
    return caught.value


def test_the_pelts_agree_with_the_csv_module() -> None:
    t = table(PELTS, time="year", prey="hare", predator="lynx", both=["hare", "lynx"])
    with PELTS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert t.time is not None and t.time.tolist() == [float(r["year"]) for r in rows]
    assert t["prey"].tolist() == [float(r["hare"]) for r in rows]
    assert t["both"][:, 1].tolist() == t["predator"].tolist() == [float(r["lynx"]) for r in rows]
    assert t["prey"].dtype == torch.float64 and t.rows == 21 and t.samples is None


def test_a_misspelt_column_offers_the_nearest() -> None:
    error = refusal(PELTS, time="year", x="linx")
    assert error.code == "NDL611" and "`linx`" in error.message and "`lynx`" in (error.help or "")
    with pytest.raises(DataError, match="`prey`"):
        table(PELTS, time="year", prey="hare")["pray"]


@pytest.mark.parametrize("empty", ["", "NA", "nan", "null"])
def test_missing_cells_are_nan_and_masked(tmp_path: Path, empty: str) -> None:
    t = table(write(tmp_path, f"t;x;y\n0;1;2\n1;{empty};3\n"), time="t")
    assert math.isnan(float(t["x"][1])) and t.masks["x"].tolist() == [True, False]
    assert t.masks["y"].all() and list(t) == ["x", "y"]


def test_a_bom_comments_quotes_and_tabs(tmp_path: Path) -> None:
    text = '\ufeff# from the field\n"t"\t"my x"\n0\t"1.5"\n\n2\t-3e2\n'
    t = table(write(tmp_path, text), time="t", x="my x")
    assert t["x"].tolist() == [1.5, -300.0] and t.time is not None and t.time.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "NDL610", ["empty"]),
        ("t,x\n", "NDL610", ["no rows"]),
        ("t,x\n0,1\n1,two\n", "NDL612", ["`two`", "line 3", "column `x`"]),
        ("t,x\n0,1\n1,2,3\n", "NDL612", ["line 3", "3 cells", "2"]),
        ("t,x\n1,1\n0,2\n", "NDL613", ["line 3", "sort", "`t`"]),
        ("t,x\n0,1\n\n0,2\n", "NDL613", ["line 4", "twice"]),
        ("t,x\n0,1\n,2\n", "NDL613", ["`t`", "missing", "line 3"]),
        ("t,x,x\n0,1,2\n", "NDL611", ["two columns", "`x`"]),
        ('t,x\n0,"1\n', "NDL610", ["not CSV"]),
    ],
)
def test_bad_csv_is_refused_with_its_place(tmp_path: Path, text: str, code: str, words: list[str]) -> None:
    error = refusal(write(tmp_path, text), time="t", x="x")
    assert error.code == code
    assert all(word in str(error) for word in words), str(error)
    assert "line 1" not in str(error)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    assert ".csv" in str(refusal(write(tmp_path, "x", "d.xls"), x="x"))
    near = refusal(tmp_path / "d.csx.csv", x="x")
    assert "there is no file" in near.message
    write(tmp_path, "t\n1\n", "lynx.csv")
    assert "`lynx.csv`" in (refusal(tmp_path / "linx.csv", x="x").help or "")
    (tmp_path / "folder.csv").mkdir()
    assert "not a file" in refusal(tmp_path / "folder.csv", x="x").message
    (tmp_path / "latin.csv").write_bytes("t,x\n0,é\n".encode("latin-1"))
    assert "UTF-8" in refusal(tmp_path / "latin.csv", x="x").message
    write(tmp_path, "nonsense", "d.npz")
    assert "NPZ" in refusal(tmp_path / "d.npz", x="x").message
    write(tmp_path, "nonsense", "d.parquet")
    assert "Parquet" in refusal(tmp_path / "d.parquet", x="x").message


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (builtins.open, (str(self.mark), "w"))


def test_pickles_in_an_npz_are_refused_and_not_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "d.npz"
    np.savez(path, x=np.array([Bomb(mark)], dtype=object), y=np.arange(3.0))
    error = refusal(path, x="x")
    assert "Python objects" in error.message and "`x`" in error.message
    assert table(path, y="y")["y"].tolist() == [0, 1, 2]
    raw = tmp_path / "raw.npz"
    raw.write_bytes(pickle.dumps(Bomb(mark)))
    refusal(raw, x="x")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark))).close()
    assert mark.exists()


def test_npz_paths_panels_and_samples(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    x = np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32)
    np.savez(path, x=x, t=np.arange(5), label=np.arange(4), name=np.array(["a"]))
    panel = table(path, time="t", x="x", label="label")
    assert panel.panel and panel.samples == 4 and panel.rows == 5
    assert torch.equal(panel.take(torch.tensor([2, 0]))["x"], torch.tensor(x[[2, 0]], dtype=torch.float64))
    rows = table(path, x="x", label="label")
    assert rows.time is None and rows.samples == 4
    assert "differ in length" in refusal(path, x="x", t="t").message
    assert "not numbers" in refusal(path, n="name").message
    assert "5 times" in refusal(path, time="t", label="label").message


def test_parquet_agrees_with_csv(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    path = tmp_path / "d.parquet"
    parquet.write_table(arrow.table({"t": [0, 1, 2], "x": [1.5, None, 2.5], "s": ["a", "b", "c"]}), path)
    t = table(path, time="t", x="x")
    assert t.masks["x"].tolist() == [True, False, True] and float(t["x"][2]) == 2.5
    assert "row 1" in refusal(path, time="t", x="s").message


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    error = refusal(write(tmp_path, "x", "d.parquet"), x="x")
    assert error.code == "NDL614" and "ndl-lang[parquet]" in (error.help or "")


def test_a_policy_decides(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", "x\n1\n")
    write(tmp_path, "x\n2\n", "out.csv")
    policy = PathPolicy.below(tmp_path / "in")
    assert table("d.csv", policy=policy)["x"].tolist() == [1]
    with pytest.raises(Exception, match="--allow-path"):
        table("../out.csv", policy=policy)


def test_a_single_path_has_no_samples_to_take() -> None:
    with pytest.raises(DataError, match="single path"):
        Table({"x": torch.zeros(3)}, torch.arange(3.0)).take(torch.tensor([0]))
