"""`python -m benchmarks [--quick] [--only fit|latency] [--markdown PAGE]`, from the repository's root."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import latency, lotka_fit, report


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Benchmarks of NDL, side by side."
    )
    parser.add_argument("--quick", action="store_true", help="a few rounds only, to see that it works")
    parser.add_argument("--only", choices=("fit", "latency"), help="one of the two parts")
    parser.add_argument(
        "--markdown", type=Path, metavar="PAGE", help="also write a page for the documentation"
    )
    chosen = parser.parse_args()
    tables = []
    if chosen.only != "latency":
        tables.append(report.fit_table(lotka_fit.run(4 if chosen.quick else 25)))
    if chosen.only != "fit":
        tables.append(report.latency_table(latency.run(2 if chosen.quick else 7)))
    tables.append(report.versions())
    report.show(tables)
    if chosen.markdown is not None:
        chosen.markdown.write_text(report.markdown(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
