"""`python -m benchmarks [--quick] [--only PART …] [--backend NAME …] [--check] [--markdown PAGE]`, from the
repository's root."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import contest, latency, lotka_fit, report, spirals

WORKS = (
    "lorenz",
    "brownian",
    "neural_ode",
    "neural_sde",
    "latent_sde",
    "neural_cde",
    "robertson",
    "learn_ode",
    "learn_cde",
    "learn_sde",
    "fields",
)


def main() -> None:
    """Measure, print, and write the page if asked to."""
    chosen = arguments()
    names = [name for name in WORKS if name in chosen.only]
    if chosen.check:
        sys.exit(checked(names))
    load = warned()
    tables = []
    if "fit" in chosen.only:
        tables.append(report.fit_table(lotka_fit.run(4 if chosen.quick else 25)))
    if "latency" in chosen.only:
        tables.append(report.latency_table(latency.run(2 if chosen.quick else 7)))
    if "spirals" in chosen.only:
        tables.append(report.spirals_table(spirals.run(chosen.quick)))
        report.show(tables[-1:])
    rounds = chosen.rounds or (3 if chosen.quick else 11)
    for work in works(names, chosen.quick, chosen.backend or [None]):
        result = contest.race(work, rounds)
        tables.append(report.work_table(result))
        report.show(tables[-1:])
    tables.append(report.versions(load))
    report.show([t for t in tables if not t.note])
    if chosen.markdown is not None:
        report.put(chosen.markdown, tables)


class Parts(argparse.Action):
    """Names of parts, apart by blanks or commas."""

    def __init__(self, *args: Any, known: Sequence[str], **options: Any) -> None:
        super().__init__(*args, **options)
        self.known = known

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        chosen: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        names = [name for value in values for name in value.split(",") if name]
        for name in names:
            if name not in self.known:
                parser.error(f"there is no part `{name}`; there are {', '.join(self.known)}")
        setattr(chosen, self.dest, names)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Benchmarks of NDL, side by side."
    )
    parts = ("fit", "latency", "spirals", *WORKS)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes and few rounds, to see that it works"
    )
    parser.add_argument(
        "--only", nargs="+", action=Parts, known=parts, default=parts, metavar="PART", help=", ".join(parts)
    )
    parser.add_argument("--rounds", type=int, help="how often each contestant of a work is timed")
    parser.add_argument(
        "--backend", action="append", metavar="NAME", help="NDL's backend in the works; may be repeated"
    )
    parser.add_argument("--check", action="store_true", help="only check the hand-written rulers' results")
    parser.add_argument(
        "--markdown", type=Path, metavar="PAGE", help="also put the tables into a page of the documentation"
    )
    return parser.parse_args()


def works(names: Sequence[str], quick: bool, backends: Sequence[str | None]) -> list[contest.Work]:
    found: list[contest.Work] = []
    for name in names:
        found += import_module(f"benchmarks.works.{name}").works(quick, backends)
    return found


def checked(names: Sequence[str]) -> int:
    """1 if a ruler is wrong."""
    wrong = contest.check(works(names, True, [None]))
    return 1 if wrong else 0


def warned() -> float:
    """The machine's load; times that are measured beside other work mislead."""
    load = os.getloadavg()[0]
    if load > 0.3:
        print(
            f"warning: the load of this machine is {load:.2f}: times will be too long and uneven",
            file=sys.stderr,
        )
    return load


if __name__ == "__main__":
    main()
