"""Model order reduction on the graph IR.

`structure` finds the elementwise maps of a right-hand side and what is affine between them; `affine`
computes the maps between; `bases` has POD and the choice of points; `project` pushes the selection of points
through what is affine, since P^T f(y) = f(P^T y), and folds the constants; `write` writes the smaller model
as a program of the language.

Source: Lehtimäki, Paunonen, Linne: Accelerating Neural ODEs Using Model Order Reduction, IEEE TNNLS 35(1),
2024, arXiv 2105.14070; DEIM: Chaturantabut, Sorensen (2010), SIAM J. Sci. Comput. 32(5), 2737–2764.
"""
