"""Titles as numbers: word ids, vectors of a pretrained encoder, TF-IDF-SVD vectors."""
