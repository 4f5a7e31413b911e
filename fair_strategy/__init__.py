"""Fair active learning for medical image segmentation.

The package imports nothing heavy: `metrics` and `acquisition` need NumPy and SciPy only.
"""

__version__ = "0.1.0"
