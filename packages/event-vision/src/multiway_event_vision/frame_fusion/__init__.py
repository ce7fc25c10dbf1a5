"""Frames between frames, fused from optical flow and events: see `README.md`."""
