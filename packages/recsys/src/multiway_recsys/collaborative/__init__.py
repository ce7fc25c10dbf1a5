"""Ranking by who clicked what, without texts: item-to-item weights, SASRec, and the blend of such scores."""
