"""Benchmarks: `python -m benchmarks` measures everything side by side in one run and prints tables."""
