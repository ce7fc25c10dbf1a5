"""What every Multiway package shares; knows no architecture and no modality.

Modules are imported by name (`from multiway_core import checkpoint`), so that a command that only needs
`errors` and `files` does not wait for PyTorch.
"""
