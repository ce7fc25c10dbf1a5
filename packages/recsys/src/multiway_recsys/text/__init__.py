"""Titles as numbers: word ids with word vectors, vectors of a pretrained encoder, TF-IDF-SVD vectors."""
