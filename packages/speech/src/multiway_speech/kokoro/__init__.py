"""Kokoro-82M: a StyleTTS 2 decoder with an iSTFTNet vocoder, the clear voices for everyday speech."""
