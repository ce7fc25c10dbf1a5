"""LatentLM (arXiv 2412.08635): one causal Transformer over text tokens and latents, by next-token diffusion."""
