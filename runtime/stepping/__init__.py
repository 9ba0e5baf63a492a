"""How a run steps: step kernels for each kind of method, step control, the loop, and its replay."""
