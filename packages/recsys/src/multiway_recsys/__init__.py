"""News recommendation."""
