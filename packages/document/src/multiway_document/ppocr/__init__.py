"""PP-OCRv6 in its small size, by its authors' weights: a text detector (DB) and a line recogniser (CTC)."""
