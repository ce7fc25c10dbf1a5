"""The umbrella: one command over whichever Multiway apps are installed."""
