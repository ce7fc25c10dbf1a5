"""Search in one's own texts: an index of vectors and words in SQLite, and the pipeline that fills it and asks it.

``pipeline`` is the entrance; ``store`` the index on disk; ``update`` brings it up to date with files.
"""
