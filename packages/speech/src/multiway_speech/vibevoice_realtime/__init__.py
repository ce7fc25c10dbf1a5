"""VibeVoice-Realtime: one voice that begins to speak before the text is complete."""
