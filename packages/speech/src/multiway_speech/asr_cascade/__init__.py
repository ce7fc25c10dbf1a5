"""Transcripts by a cascade of finished parts: voice activity, Whisper, speaker embeddings, clustering."""
