"""The two losses that are crossed with all networks; T steps, B samples, K classes.

"rate" averages what the network says over time, as spiking networks are read (He et al. 2020, equation of the loss
of SNNs) and as the paper proposes for RNNs too. "last" asks at the last step only, as is common for RNNs. Both are the
mean squared error against one-hot labels. Classes are read as the loss reads them.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import mse_loss, one_hot

from multiway_event_vision.recurrent.networks import Outputs

Loss = Literal["rate", "last"]
LOSSES: tuple[Loss, ...] = ("rate", "last")


def scores(outputs: Outputs, loss: Loss) -> Tensor:
    """(B, K): the mean over all steps, or the last step."""
    return outputs.each_TBK.mean(dim=0) if loss == "rate" else outputs.last_BK


def objective(outputs: Outputs, labels_B: Tensor, loss: Loss) -> Tensor:
    """Mean squared error of the scores against one-hot labels (int64)."""
    scores_BK = scores(outputs, loss)
    return mse_loss(scores_BK, one_hot(labels_B, scores_BK.shape[1]).to(scores_BK))
