"""Hand-written C, one file a work: what a machine can do, as a ruler for the others."""
