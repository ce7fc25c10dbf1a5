"""Logs and news in memory, and the readers and writers of their file formats."""
