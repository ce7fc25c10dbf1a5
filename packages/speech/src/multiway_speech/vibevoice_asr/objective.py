"""Losses of the small VibeVoice-ASR: the answer's tokens, and auxiliary losses half way up the decoder.

Cross-entropy on the assistant's turn is the published objective (arXiv 2601.18184, section 2.3). So that a decoder that
starts from nothing soon knows who speaks and where it is, the states of the positions of sound in the middle of the
decoder also have to tell the speaker and the time, through heads that are dropped afterwards; and a head of the layer
above has to look at the word that is to be written next.

Shape suffixes: B batch, T tokens, N positions of sound of all rows, D their numbers, E hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from multiway_blocks.attention import Attention
from multiway_blocks.norm import RMSNorm
from multiway_blocks.transformer import PreNorm
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_speech.language_model import Connector, LanguageModel
from multiway_speech.vibevoice_asr.causal_attention import causal_attention
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.word_tokens import WordConnector

IGNORED = -100
SPEAKERS = 4
SECONDS = 32
POSITION_SECONDS = 0.08
FRACTIONS = 13
"""Parts of a second that are told apart."""


@dataclass
class Batch:
    """Sequences of prompt and answer, filled up on the right."""

    tokens_BT: Tensor
    valid_BT: Tensor
    answer_BT: Tensor
    """The next token where it belongs to the answer, else :data:`IGNORED`."""
    frames_ND: Tensor
    """Acoustic numbers of the frames at each position."""
    words_NK: Tensor
    """The piece of a word that was recognized there and those before it, or the token that stands for none."""
    lengths_B: Tensor
    """Positions of sound of each row."""
    speakers_N: Tensor
    """0 for nobody, else the speaker's number plus 1."""
    look_BT: Tensor
    """Where the next token of the answer can be read: a place in the sequence, else :data:`IGNORED`."""


class AsrTrainingModel(nn.Module):
    """The decoder with its connectors, and the heads that only training has."""

    def __init__(self, config: VibeVoiceAsrConfig) -> None:
        super().__init__()
        size = config.text.hidden_size
        self.config = config
        self.acoustic_connector = Connector(config.acoustic.latent_size * config.stacked, size)
        self.semantic_connector = WordConnector(size)
        self.language_model = LanguageModel(config.text)
        self.hint_norm = RMSNorm(size, 1e-6)
        self.speaker = nn.Linear(size, SPEAKERS + 1)
        self.second = nn.Linear(size, SECONDS)
        self.fraction = nn.Linear(size, FRACTIONS)
        self._initialize()

    def _initialize(self) -> None:
        layers = self.config.text.num_layers
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            spread = 0.6 * parameter.shape[1] ** -0.5
            if name.endswith(("attention.output.weight", "feedforward.down.weight")):
                spread /= (2 * layers) ** 0.5
            nn.init.normal_(parameter, std=spread)
        nn.init.normal_(self.acoustic_connector.output.weight, std=0.1 * self.config.text.hidden_size**-0.5)
        nn.init.zeros_(self.acoustic_connector.output.bias)

    def hear(self, frames_ND: Tensor, words_NK: Tensor) -> Tensor:
        """Inputs (N, E) of the decoder."""
        words_NE = self.semantic_connector(self.language_model.embedding(words_NK))
        return self.acoustic_connector(frames_ND) + words_NE

    def states(self, batch: Batch, frames_NE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States (B, T, E) half way up and at the top, those of the decoder's own ``forward``.

        Thirdly, the mean negative logarithm of what a head in the middle looks with at ``look``.

        Rows are filled up on the right, so that causality alone hides the padding, and attention can be the fast one.
        """
        model = self.language_model
        x_BTE = model.embed(batch.tokens_BT, batch.tokens_BT == self.config.tokens.frame, frames_NE)
        positions_BT = torch.arange(x_BTE.shape[1], device=x_BTE.device).expand(x_BTE.shape[:2])
        middle_BTE, missed = x_BTE, x_BTE.new_zeros(())
        layers = model.decoder.layers
        for number, layer in enumerate(layers, 1):
            assert isinstance(layer, PreNorm)
            assert isinstance(layer.attention, Attention)
            normed_BTE = layer.attention_norm(x_BTE)
            if number == len(layers) // 2 + 1:
                missed = _missed(layer.attention, normed_BTE, positions_BT, batch.look_BT)
            x_BTE = x_BTE + _attend(layer.attention, normed_BTE, positions_BT)
            x_BTE = x_BTE + layer.feedforward(layer.feedforward_norm(x_BTE))
            if number == len(layers) // 2:
                middle_BTE = x_BTE
        return middle_BTE, model.decoder.norm(x_BTE), missed


def _attend(attention: Attention, x_BTE: Tensor, positions_BT: Tensor) -> Tensor:
    assert attention.rotary is not None
    query_BHTD, key_BKTD, value_BKTD = (
        projection(x_BTE).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for projection in (attention.query, attention.key, attention.value)
    )
    query_BHTD = attention.rotary(query_BHTD, positions_BT)
    key_BKTD = attention.rotary.keys(key_BKTD, positions_BT)
    groups = attention.num_heads // attention.num_kv_heads
    if groups > 1:
        key_BKTD = key_BKTD.repeat_interleave(groups, dim=1)
        value_BKTD = value_BKTD.repeat_interleave(groups, dim=1)
    mixed_BHTD = causal_attention(query_BHTD, key_BKTD, value_BKTD)
    return attention.output(mixed_BHTD.transpose(1, 2).flatten(2))


def _missed(attention: Attention, x_BTE: Tensor, positions_BT: Tensor, look_BT: Tensor) -> Tensor:
    """Mean negative logarithm of the first head's weight where it should look."""
    assert attention.rotary is not None
    size = attention.head_dim
    query_B1TD = _project(attention.query, x_BTE, size)[:, None]
    key_B1TD = _project(attention.key, x_BTE, size)[:, None]
    query_BTD = attention.rotary(query_B1TD, positions_BT)[:, 0]
    key_BTD = attention.rotary.keys(key_B1TD, positions_BT)[:, 0]
    scores_BTT = (query_BTD @ key_BTD.transpose(1, 2)).float() * size**-0.5
    later = torch.ones(scores_BTT.shape[1:], dtype=torch.bool).triu(1)
    scores_BTT = scores_BTT.masked_fill(later, float("-inf"))
    total = nn.functional.cross_entropy(
        scores_BTT.flatten(0, 1), look_BT.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (look_BT != IGNORED).sum().clamp_min(1)


def _project(projection: nn.Linear, x_BTE: Tensor, size: int) -> Tensor:
    bias = None if projection.bias is None else projection.bias[:size]
    return nn.functional.linear(x_BTE, projection.weight[:size], bias)


@dataclass(frozen=True)
class AsrObjective:
    """Loss of a batch, as the trainer asks for it."""

    speaker_weight: float = 0.3
    time_weight: float = 0.1
    look_weight: float = 0.5

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        assert isinstance(model, AsrTrainingModel)
        frames_NE = model.hear(batch.frames_ND.float(), batch.words_NK)
        middle_BTE, top_BTE, missed = model.states(batch, frames_NE)
        answered_BT = batch.answer_BT != IGNORED
        logits_MV = model.language_model.logits(top_BTE[answered_BT]).float()
        targets_M = batch.answer_BT[answered_BT]
        answer = nn.functional.cross_entropy(logits_MV, targets_M)
        hints_NE = model.hint_norm(middle_BTE[batch.tokens_BT == model.config.tokens.frame])
        speaker = nn.functional.cross_entropy(model.speaker(hints_NE).float(), batch.speakers_N)
        time = self._time(model, hints_NE, batch.lengths_B)
        total = answer + self.speaker_weight * speaker + self.time_weight * time + self.look_weight * missed
        metrics = {
            "answer": answer.detach(),
            "speaker": speaker.detach(),
            "time": time.detach(),
            "look": missed.detach(),
            "right": (logits_MV.detach().argmax(-1) == targets_M).float().mean(),
        }
        rows = len(batch.tokens_BT)
        return Loss(total * rows, rows, metrics, samples=rows)

    def _time(self, model: AsrTrainingModel, hints_NE: Tensor, lengths_B: Tensor) -> Tensor:
        time_N = torch.cat([torch.arange(int(length)) for length in lengths_B]).to(hints_NE.device)
        time_N = time_N * POSITION_SECONDS + 1e-3
        second_N = time_N.long()
        fraction_N = ((time_N - second_N) * FRACTIONS).long()
        second = nn.functional.cross_entropy(model.second(hints_NE).float(), second_N.clamp_max(SECONDS - 1))
        return second + nn.functional.cross_entropy(model.fraction(hints_NE).float(), fraction_N)
