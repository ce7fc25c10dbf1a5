"""The question answering app."""
