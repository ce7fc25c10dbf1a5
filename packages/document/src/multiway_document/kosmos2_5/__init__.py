"""KOSMOS-2.5, the multimodal literate model (arXiv 2309.11419), and the small reader that is bundled."""
