"""Document reading: KOSMOS-2.5, the small bundled reader, and everything between a file and its text.

Start at :mod:`multiway_document.pipeline`.
"""
