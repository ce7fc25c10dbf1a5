"""What a small encoder is taught by a large one.

==========  =====================================================================================================
`minilm`    the attention and the values' relations of one layer (arXiv 2002.10957, section 3): equal attention heads
`minilmv2`  the relations of queries, keys and values of one layer (arXiv 2012.15828, section 3), in any number of
            relation heads that divides both widths
`hidden`    baseline: squared error of the states that leave the layer, the student's projected to the teacher's width
`logits`    baseline: the masked-LM distribution at hidden places (Hinton et al. 2015); the teacher has such a head
==========  =====================================================================================================

The student's last layer learns from one layer of the teacher. With relations nothing is learnt behind the last layer's
queries, keys and values: its output projection and feed-forward network stay as they were.

Shape suffixes: B batch, T tokens, N hidden places, E hidden size.
"""

from __future__ import annotations

from typing import Literal

import torch
from multiway_blocks import distillation
from multiway_blocks.linear import Linear
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core.errors import InputError
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_text.encoder.heads import MaskedLM, MaskedLMHead
from multiway_text.sequences import Rows

Method = Literal["minilm", "minilmv2", "hidden", "logits"]
METHODS: tuple[Method, ...] = ("minilm", "minilmv2", "hidden", "logits")
HIDDEN_SHARE = 0.15
TEMPERATURE = 2.0


class Student(nn.Module):
    """An encoder that learns, with what a baseline adds to it while it does: a projection, or a masked-LM head.

    ``teacher_size``: the width that ``hidden`` projects to; 0 compares the states as they are.
    """

    def __init__(self, encoder: TextEncoder, method: Method = "minilmv2", teacher_size: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = self.head = None
        if method == "hidden" and teacher_size:
            self.projection = Linear(encoder.config.hidden_size, teacher_size)
        elif method == "logits":
            self.head = MaskedLMHead(encoder.config)


def check(
    student: TextEncoderConfig, teacher: TextEncoderConfig, method: Method, relation_heads: int, layer: int
) -> None:
    """Raise InputError where a student cannot learn from a teacher; ``layer`` of the teacher counts from 1."""
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; there are: {', '.join(METHODS)}")
    if student.vocab_size != teacher.vocab_size:
        raise InputError(
            f"the student's vocabulary has {student.vocab_size} tokens and the teacher's {teacher.vocab_size}; "
            "both must read the same tokens: take a student with the teacher's tokenizer"
        )
    if not 1 <= layer <= teacher.num_layers:
        raise InputError(f"the teacher has layers 1 to {teacher.num_layers}, and no layer {layer}")
    if method == "minilm" and student.num_heads != teacher.num_heads:
        raise InputError(
            f"minilm compares attention heads: the student has {student.num_heads} and the teacher "
            f"{teacher.num_heads}; give both the same number, or take minilmv2"
        )
    if method == "minilmv2":
        for name, config in (("student", student), ("teacher", teacher)):
            width = config.num_heads * config.attention_head_size
            if relation_heads < 1 or width % relation_heads:
                raise InputError(
                    f"{relation_heads} relation heads do not divide the {name}'s width {width}; "
                    "take a common divisor of both widths"
                )


class Distillation:
    """The objective of the trainer: the mean over tokens, as a sum with its weight. Raises as :func:`check`.

    teacher: an encoder, for ``logits`` with its masked-LM head; nothing flows back to it.
    layer: whose vectors are learnt, counted from 1: those that are computed inside it (``hidden``: that leave it).
    mask_id: what stands for hidden tokens (``logits``).
    """

    def __init__(
        self,
        teacher: TextEncoder | MaskedLM,
        student: TextEncoderConfig,
        method: Method = "minilmv2",
        *,
        relation_heads: int = 12,
        layer: int | None = None,
        mask_id: int = 0,
    ) -> None:
        self.encoder = teacher.encoder if isinstance(teacher, MaskedLM) else teacher
        self.teacher, self.method, self.mask_id = teacher.eval(), method, mask_id
        self.heads = student.num_heads if method == "minilm" else relation_heads
        self.layer = self.encoder.config.num_layers if layer is None else layer
        check(student, self.encoder.config, method, self.heads, self.layer)

    def __call__(self, student: nn.Module, batch: Rows) -> Loss:
        """The loss of a batch."""
        assert isinstance(student, Student)
        self.teacher.to(batch.ids_BT.device)
        if self.method == "logits":
            return self._logits(student, batch)
        ids_BT, valid_BT, _ = batch
        with torch.no_grad():
            taught = self.encoder(ids_BT, valid_BT, hidden_states=True).hidden_states
        states = student.encoder(ids_BT, valid_BT, hidden_states=True).hidden_states
        if self.method == "hidden":
            own_BTE = states[-1] if student.projection is None else student.projection(states[-1])
            loss = distillation.hidden_loss(own_BTE.float(), taught[self.layer], valid_BT)
        else:
            with torch.no_grad():
                theirs = self.encoder.q_k_v(self.layer - 1, taught[self.layer - 1])
            last = student.encoder.config.num_layers - 1
            own = student.encoder.q_k_v(last, states[last])
            compare = distillation.minilm if self.method == "minilm" else distillation.minilm_v2
            loss = compare(own, theirs, self.heads, valid_BT)
        weight = int(valid_BT.sum())
        return Loss(loss * weight, weight, samples=len(ids_BT))

    def _logits(self, student: Student, batch: Rows) -> Loss:
        assert isinstance(self.teacher, MaskedLM)
        assert student.head is not None
        hidden_BT = hidden_places(batch)
        ids_BT = batch.ids_BT.masked_fill(hidden_BT, self.mask_id)
        with torch.no_grad():
            states_NE = self.encoder(ids_BT, batch.valid_BT).hidden_BTE[hidden_BT]
            taught_NV = self.teacher.logits(states_NE)
        own_NE = student.encoder(ids_BT, batch.valid_BT).hidden_BTE[hidden_BT]
        own_NV = student.head(own_NE, student.encoder.token_embedding.weight)
        weight = int(hidden_BT.sum())
        return Loss(
            distillation.logits_loss(own_NV, taught_NV, TEMPERATURE), weight, samples=len(batch.ids_BT)
        )


def hidden_places(batch: Rows) -> Tensor:
    """Bool (B, T): `HIDDEN_SHARE` of the tokens between the first and the last one of every row.

    Drawn by the rows' numbers, so that a batch has the same places whenever it is made.
    """
    generator = torch.Generator().manual_seed(int(batch.index_B.sum()))
    inner_BT = batch.valid_BT.clone()
    inner_BT[:, :-1] &= batch.valid_BT[:, 1:]
    inner_BT[:, 0] = inner_BT[:, -1] = False
    chance_BT = torch.rand(inner_BT.shape, generator=generator).to(inner_BT.device)
    return inner_BT & (chance_BT < HIDDEN_SHARE)
