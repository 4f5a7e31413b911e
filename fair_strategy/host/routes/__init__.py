"""Routes that stand in front of MONAI Label's own."""
