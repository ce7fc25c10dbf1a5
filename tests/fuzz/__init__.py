"""Readers of strangers' files under mutated inputs: `python -m tests.fuzz` (see `__main__`)."""
