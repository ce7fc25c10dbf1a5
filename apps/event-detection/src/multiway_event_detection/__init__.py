"""The event detection app."""
