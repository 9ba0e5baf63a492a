"""Runs of the matrix of agreement under Triton's interpreter.

`python triton_agreement_worker.py FOLDER PORTION MANY [every]` writes `ran.pt`: of each case of one of
so many portions of the design, or of everything, the run, or why there is none.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"

import torch
from agreement import Case, Ran, adaptive_cases, cases, design, gap, held
from agreement_problems import PROBLEMS
from quick_triton import hasten


def given(every: bool) -> list[Case]:
    if not every:
        return design()
    found = [*cases(), *(replace(c, gradient="none") for c in adaptive_cases(PROBLEMS))]
    return [c for c in found if gap(c) is None and not held(c)]


def attempt(case: Case) -> Ran | str:
    try:
        return Ran(case, "triton")
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main(folder: Path, portion: int, many: int, every: bool) -> None:
    torch.set_num_threads(1)
    hasten()
    torch.save({case: attempt(case) for case in given(every)[portion::many]}, folder / "ran.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), len(sys.argv) > 4)
