"""VibeVoice: long-form multi-speaker text to speech."""
