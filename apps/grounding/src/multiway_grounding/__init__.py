"""Phrase grounding with absence detection, captions and visual question answering: command, demo, evaluation."""
