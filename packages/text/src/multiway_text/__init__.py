"""Text language models: one folder a system, on the shared blocks and the shared decode loop."""
