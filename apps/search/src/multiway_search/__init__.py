"""The text encoder app."""
