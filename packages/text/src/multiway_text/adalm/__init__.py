"""AdaLM, Adapt-and-Distill: a general encoder gets a domain's words and texts, and a small one learns from it."""
