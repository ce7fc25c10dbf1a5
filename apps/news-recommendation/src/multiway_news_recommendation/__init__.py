"""The news recommendation app."""
