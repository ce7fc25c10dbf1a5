"""The continuous speech tokenizers of VibeVoice: acoustic (sigma-VAE) and semantic."""
