"""Three published tasks of fair uncertainty, end to end: train, predict with doubt, audit."""
