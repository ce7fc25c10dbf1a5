"""GLoCIM (COLING 2025) and the models it is compared with, assembled from the same parts."""
