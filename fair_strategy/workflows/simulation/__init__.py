"""Active learning played through with a simulated annotator, by the server's own functions."""
