"""Sentence vectors of a small encoder aligned to a large one's: the stage that the MiniLM papers do not have.

A sentence's vector is the mean of the last layer's states, of length 1. The teacher's vectors are computed once and
turned onto their principal components, as many as the student is wide; the student learns these by cosine. Products of
vectors are thus the teacher's, as far as the student's width can hold them.

Shape suffixes: B batch, T tokens, E hidden size, F the teacher's, N texts.
"""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_blocks.contrastive import info_nce
from multiway_core import checkpoint as tensor_files
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_text.encoder.engine import embed_tokens
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings
from multiway_text.minilm.objective import Student
from multiway_text.sequences import Rows, Sequences

GROUP = 1 << 20
"""Tokens whose vectors make one file."""
SETTINGS = SentenceSettings(pooling=("mean",), normalize=True)


def teacher_vectors(teacher: SentenceModel, sequences: Sequences, folder: Path) -> Tensor:
    """The teacher's vectors of all rows, float32 (N, F), kept in float16 in ``folder``, file by file: a start that was
    stopped goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    found, first = [], 0
    while first < len(sequences):
        end = int(torch.searchsorted(sequences.starts, sequences.starts[first] + GROUP))
        end = min(max(end, first + 1), len(sequences))
        path = folder / f"{first:09d}.safetensors"
        if not path.is_file():
            with torch.autocast("cpu", torch.bfloat16):
                vectors = embed_tokens(teacher, [sequences[row].tolist() for row in range(first, end)])
            tensor_files.save({"vectors": vectors.half()}, folder, filename=path.name)
        found.append(tensor_files.read(path)["vectors"].float())
        first = end
    return torch.cat(found)


def principal(vectors_NF: Tensor, size: int) -> Tensor:
    """The directions of the largest sums of squares, (F, size): not centred, so that products are kept best."""
    _, directions = torch.linalg.eigh(vectors_NF.T.double() @ vectors_NF.double())
    directions = directions.flip(1)[:, :size]
    # The sign of a direction is free; it is fixed so that two machines agree.
    return (directions * directions.sum(0).sign()).to(vectors_NF.dtype)


class Alignment:
    """The objective of the trainer: one minus the cosine of the student's and the teacher's vector, summed.

    ``contrast``: where it is above 0, each of the student's vectors shall also find the teacher's of its text among
    those of the batch: InfoNCE over cosines times ``contrast``. Vectors of E5 have cosines of .7 and more with each
    other; what tells them apart weighs little in the cosine alone.
    """

    def __init__(self, targets_NE: Tensor, contrast: float = 0.0) -> None:
        self.targets_NE = nn.functional.normalize(targets_NE, dim=-1)
        self.contrast = contrast

    def __call__(self, student: nn.Module, batch: Rows) -> Loss:
        """The loss of a batch."""
        assert isinstance(student, Student)
        targets_BE = self.targets_NE[batch.index_B.cpu()].to(batch.ids_BT.device)
        hidden_BTE = student.encoder(batch.ids_BT, batch.valid_BT).hidden_BTE.float()
        own_BE = SETTINGS.pool(hidden_BTE, batch.valid_BT)
        loss = (1 - (own_BE * targets_BE).sum(-1)).sum()
        if self.contrast > 0:
            loss = loss + info_nce(own_BE, targets_BE, self.contrast).sum()
        return Loss(loss, len(targets_BE), samples=len(targets_BE))
