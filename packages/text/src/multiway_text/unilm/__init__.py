"""UniLM: one Transformer that is trained as a bidirectional, a one-directional and a sequence-to-sequence model."""
