"""The works of the benchmark, one file each: a problem as data, its contestants, and the error of a result.

`works(quick, backends)` of each file makes its works, one for each method;
NDL takes part once for each backend.
"""
