"""MiniLM and MiniLMv2: a small encoder learns the relations between tokens that a large one sees."""
