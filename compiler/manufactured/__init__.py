"""Forced problems whose solution is known, derived from a model by sympy: the method of manufactured
solutions."""
