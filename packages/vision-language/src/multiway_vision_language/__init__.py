"""Vision and language: Kosmos-2 grounding, Kosmos-1, MetaLM, and a small bundled grounding model."""
