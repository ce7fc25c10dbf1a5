"""Whole-slide images by LongViT: command line, viewer, server."""
