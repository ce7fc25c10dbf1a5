"""Speech: text to speech and transcription of long, multi-speaker audio."""
