"""The frame interpolation app."""
