"""The Triton printer: a kernel as a Python module for GPUs, a tile of trajectories a program."""

from ndl.compiler.backends.triton.module import print_module

__all__ = ["print_module"]
