"""Photographs of everyday things: a detector at full size, 1,000 more names by a classifier, words by WordNet, colours.

It answers for the bundled grounding model wherever it knows the noun; see that model's card.
"""
