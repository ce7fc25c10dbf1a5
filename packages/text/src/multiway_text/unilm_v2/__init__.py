"""UniLMv2: autoencoding and partially autoregressive modelling of the same hidden tokens in one pass."""
