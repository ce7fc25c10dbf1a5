"""MH-MoE (arXiv 2404.15045, 2411.16205): mixtures of experts whose tokens are split in sub-tokens and routed apart."""
