"""What BEiT-3, VL-BEiT, VLMo and DiDE share: one Transformer for pictures and words with experts by modality."""
