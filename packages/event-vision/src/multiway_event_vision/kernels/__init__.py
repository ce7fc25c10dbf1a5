"""Fused operations of this package, in the pattern of `multiway_blocks.kernels`."""
