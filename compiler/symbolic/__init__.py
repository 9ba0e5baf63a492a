"""IR ↔ sympy: simplification, derivatives, Itô ↔ Stratonovich; and, free of sympy, the order
conditions of tableaux and equations as LaTeX. Nothing here is imported at module level by others:
`ndl check` loads `order_conditions` and `latex` alone."""
