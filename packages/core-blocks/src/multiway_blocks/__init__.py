"""Layers and kernels that the Multiway systems are built from; they know no task and no config object."""
