"""Fuzzing that is guided by coverage: `python -m tests.fuzz TARGET --seconds N`."""
