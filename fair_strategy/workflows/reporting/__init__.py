"""What reports share: figures, words, tables, and one self-contained HTML page."""
