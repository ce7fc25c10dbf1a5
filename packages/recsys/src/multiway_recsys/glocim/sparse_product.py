"""Product of a sparse matrix and a dense one: message passing along the edges of a graph.

Shape suffixes: R rows, C columns, X edges, E width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor


def sparse_product(indptr: Tensor, indices_X: Tensor, weights_X: Tensor, x_CE: Tensor) -> Tensor:
    """Row i of the result is the weighted sum of the rows ``indices[indptr[i]:indptr[i + 1]]`` of ``x``: (R, E).

    Differentiable in ``x``. On a CPU the product runs in SciPy, row by row without a list of messages in memory.
    """
    if x_CE.device.type == "cpu":
        if x_CE.element_size() >= 4 or torch.is_autocast_enabled("cpu"):
            return _ScipyProduct.apply(indptr, indices_X, weights_X, x_CE)
        return _ScipyProduct.apply(indptr, indices_X, weights_X, x_CE.float()).to(x_CE.dtype)
    return edge_list_product(indptr, indices_X, weights_X, x_CE)


def edge_list_product(indptr: Tensor, indices_X: Tensor, weights_X: Tensor, x_CE: Tensor) -> Tensor:
    """The same with one message an edge, for any device."""
    num_rows = len(indptr) - 1
    rows_X = torch.repeat_interleave(
        torch.arange(num_rows, device=x_CE.device), indptr.diff(), output_size=len(indices_X)
    )
    messages_XE = x_CE.index_select(0, indices_X) * weights_X[:, None].to(x_CE.dtype)
    return x_CE.new_zeros(num_rows, x_CE.shape[1]).index_add(0, rows_X, messages_XE)


class _ScipyProduct(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, indptr: Tensor, indices: Tensor, weights: Tensor, x: Tensor) -> Tensor:
        shape = (len(indptr) - 1, len(x))
        ctx.matrix = scipy.sparse.csr_array((weights.numpy(), indices.numpy(), indptr.numpy()), shape=shape)
        return torch.from_numpy(np.ascontiguousarray(ctx.matrix @ x.detach().numpy()))

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Any) -> tuple[None, None, None, Tensor]:
        gradient = gradients[0].contiguous().numpy()
        return None, None, None, torch.from_numpy(np.ascontiguousarray(ctx.matrix.T @ gradient))
