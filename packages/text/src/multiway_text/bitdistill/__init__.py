"""BitNet Distillation (arXiv 2510.13998): a full-precision model becomes a ternary one, as large or smaller."""
