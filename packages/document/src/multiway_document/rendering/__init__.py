"""Synthetic text lines and pages: fonts, texts, degradations, and the pools and suites made from them."""
