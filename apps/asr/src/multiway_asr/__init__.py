"""The speech recognition app: ``multiway-asr`` and its demo, on top of ``multiway_speech``."""
