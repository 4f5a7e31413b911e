"""Measures of overlap, surface distance and fairness; NumPy and SciPy only."""
