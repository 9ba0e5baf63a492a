"""What generated kernels need to run: their files, launches and the choice of a tile."""
