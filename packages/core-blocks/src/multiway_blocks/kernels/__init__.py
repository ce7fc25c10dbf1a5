"""Fused operations: one folder an operation, one public function a folder. `README.md` says how to add one.

`from multiway_blocks.kernels.rms_norm import rms_norm`; the functions are not re-exported here, because a
function of the same name would hide its own folder.
"""
