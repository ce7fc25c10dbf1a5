"""BitNet b1.58 (arXiv 2402.17764, 2504.12285): ternary weights and int8 activations."""
