"""The algorithms, a file per family."""
