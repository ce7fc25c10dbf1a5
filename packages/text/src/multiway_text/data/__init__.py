"""Corpora and their corruption: what the text systems are trained and judged on."""
