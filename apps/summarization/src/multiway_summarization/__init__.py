"""Titles, questions and summaries: command line, demo, evaluation and server."""
