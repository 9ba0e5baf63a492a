"""`python -m ndl`."""

from ndl.cli import main

main()
