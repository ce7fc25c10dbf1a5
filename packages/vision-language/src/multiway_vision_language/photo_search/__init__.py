"""Photo search: pictures and words in one space of vectors, by a dual encoder whose text side is MiniLM."""
