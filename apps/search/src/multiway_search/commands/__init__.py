"""Commands that make or measure something beside an index."""
