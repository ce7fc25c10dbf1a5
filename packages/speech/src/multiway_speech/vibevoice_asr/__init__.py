"""VibeVoice-ASR: who said what and when, from an hour of audio in one pass."""
