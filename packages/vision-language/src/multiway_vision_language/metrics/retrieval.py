"""Recall of picture-text retrieval: the protocol of COCO and Flickr30k (Karpathy & Fei-Fei 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

KS = (1, 5, 10)


def retrieval_ranks(scores_IT: Tensor, image_of_text: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The place from 0 of each picture's best own text among all texts (I,), and of each text's picture (T,).

    ``scores_IT``: similarity of I pictures to T texts; text t belongs to the picture ``image_of_text[t]``. Ties count
    against the model. Raises ValueError: shapes do not fit, or a picture has no text.
    """
    owner_T = torch.as_tensor(image_of_text)
    images, texts = scores_IT.shape
    if owner_T.shape != (texts,) or set(owner_T.tolist()) != set(range(images)):
        raise ValueError(f"{texts} texts of {images} pictures need one owner each, and every picture a text")
    own_IT = owner_T[None, :] == torch.arange(images)[:, None]
    best_I = scores_IT.masked_fill(~own_IT, -torch.inf).amax(1)
    text_rank_I = (scores_IT.masked_fill(own_IT, -torch.inf) >= best_I[:, None]).sum(1)
    own_T = scores_IT.gather(0, owner_T[None])[0]
    return text_rank_I, (scores_IT >= own_T).sum(0) - 1


def retrieval_recall(scores_IT: Tensor, image_of_text: Sequence[int]) -> dict[str, float]:
    """Text and image recall at 1, 5 and 10, and the mean of the six, 0 to 1; arguments as of :func:`retrieval_ranks`.

    Text recall: any of a picture's texts is among its k best; image recall: a text's picture is.
    """
    text_rank_I, image_rank_T = retrieval_ranks(scores_IT, image_of_text)
    found = {f"text R@{k}": float((text_rank_I < k).float().mean()) for k in KS}
    found |= {f"image R@{k}": float((image_rank_T < k).float().mean()) for k in KS}
    return found | {"mean recall": sum(found.values()) / len(found)}
