"""The language model app: ``multiway-lm``, its server and its demo, on top of ``multiway_text``."""
