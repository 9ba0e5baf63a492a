"""The torch backend: lowered models, solvers and operators as a readable Python module."""

from ndl.compiler.backends.torch.module import compile_source, print_module

__all__ = ["compile_source", "print_module"]
