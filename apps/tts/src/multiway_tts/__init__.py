"""The text-to-speech app: ``multiway-tts`` and its demo, on top of ``multiway_speech``."""
