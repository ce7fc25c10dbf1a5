"""VLMo (arXiv 2111.02358)."""
