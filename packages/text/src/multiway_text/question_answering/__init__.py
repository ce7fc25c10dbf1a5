"""Questions to one's own texts: passages are retrieved, read together, and the best span is the answer, or none is.

``pipeline`` is the entrance; ``result`` what it gives.
"""
