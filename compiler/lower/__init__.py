"""Lowering: checked declarations to graphs, models and solvers of the IR."""
