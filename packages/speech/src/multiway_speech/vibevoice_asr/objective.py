"""What the small VibeVoice-ASR is trained for: the answer's tokens, and hints about the frames from half way up.

Cross-entropy on the assistant's turn is the published objective (arXiv 2601.18184, section 2.3). A decoder that starts
from nothing finds out very slowly from it alone where in the sound each word is. So the states of the frames in the
middle of the decoder also have to tell, through heads that are dropped afterwards: the pieces of text that are said
(connectionist temporal classification against the embedding, and, since that takes long to find out what is where,
roughly the piece at each place), which of the speakers is speaking, and the time.

Shape suffixes: B batch, T tokens, N frames of all rows, D numbers of a frame, E hidden size, V vocabulary, S pieces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from multiway_blocks.attention import Attention
from multiway_blocks.gated_decoder import GatedDecoderLayer
from multiway_blocks.norm import RMSNorm
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_speech.language_model import Connector, LanguageModel
from multiway_speech.vibevoice_asr.causal_attention import causal_attention
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig

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
    lengths_B: Tensor
    """Frames of each row."""
    pieces_BS: Tensor
    """Text that is said, pieces of all segments, filled up with zeros."""
    piece_counts_B: Tensor
    speakers_N: Tensor
    """0 for nobody, else the speaker's number plus 1."""
    spoken_N: Tensor
    """Roughly, the piece that was said a little before, 0 in silence."""


class Listener(nn.Module):
    """The decoder with its connectors, and the heads that only training has."""

    def __init__(self, config: VibeVoiceAsrConfig, num_pieces: int) -> None:
        super().__init__()
        size = config.text.hidden_size
        self.config = config
        self.num_pieces = num_pieces
        self.acoustic_connector = Connector(config.acoustic.latent_size * config.stacked, size)
        self.semantic_connector = Connector(config.semantic_size * config.stacked, size)
        self.language_model = LanguageModel(config.text)
        self.hint_norm = RMSNorm(size, 1e-6)
        self.blank = nn.Linear(size, 1)
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
        for connector in (self.acoustic_connector, self.semantic_connector):
            nn.init.normal_(connector.output.weight, std=0.1 * self.config.text.hidden_size**-0.5)
            nn.init.zeros_(connector.output.bias)

    def hear(self, frames_ND: Tensor) -> Tensor:
        """Inputs (N, E) of the decoder."""
        size = self.config.acoustic.latent_size * self.config.stacked
        return self.acoustic_connector(frames_ND[:, :size]) + self.semantic_connector(frames_ND[:, size:])

    def states(self, batch: Batch, frames_NE: Tensor, *, half: bool = False) -> tuple[Tensor, Tensor]:
        """States (B, T, E) half way up and at the top (or, twice, those ``half`` way), as the decoder's ``forward``.

        Rows are filled up on the right, so that causality alone hides the padding, and attention can be the fast one.
        """
        model = self.language_model
        x_BTE = model.embed(batch.tokens_BT, batch.tokens_BT == self.config.tokens.frame, frames_NE)
        positions_BT = torch.arange(x_BTE.shape[1], device=x_BTE.device).expand(x_BTE.shape[:2])
        middle_BTE = x_BTE
        layers = model.decoder.layers
        for number, layer in enumerate(layers, 1):
            assert isinstance(layer, GatedDecoderLayer)
            x_BTE = x_BTE + _attend(layer.attention, layer.attention_norm(x_BTE), positions_BT)
            x_BTE = x_BTE + layer.feedforward(layer.feedforward_norm(x_BTE))
            if number == len(layers) // 2:
                middle_BTE = x_BTE
                if half:
                    return middle_BTE, middle_BTE
        return middle_BTE, model.decoder.norm(x_BTE)


def heard_part(batch: Batch, frame: int) -> Batch:
    """The sequences up to their last frame."""
    places_BT = (batch.tokens_BT == frame) * torch.arange(batch.tokens_BT.shape[1])
    end = int(places_BT.max()) + 1
    return replace(
        batch,
        tokens_BT=batch.tokens_BT[:, :end],
        valid_BT=batch.valid_BT[:, :end],
        answer_BT=batch.answer_BT[:, :end],
    )


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


@dataclass(frozen=True)
class AsrObjective:
    """Loss of a batch, as the trainer asks for it."""

    piece_weight: float = 0.3
    spoken_weight: float = 0.3
    speaker_weight: float = 0.3
    time_weight: float = 0.1
    hints_only: bool = False
    """Leave out the answer and what is above the middle: three times as much is heard in the same time."""
    masked: float = 0.5
    """Share of batches in which short stretches of frames are taken away."""

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        assert isinstance(model, Listener)
        frames_NE = model.hear(batch.frames_ND.float())
        if torch.rand(()) < self.masked:
            frames_NE = frames_NE * _gaps(batch.lengths_B)[:, None]
        if self.hints_only:
            batch = heard_part(batch, model.config.tokens.frame)
        middle_BTE, top_BTE = model.states(batch, frames_NE, half=self.hints_only)
        answered_BT = batch.answer_BT != IGNORED
        targets_M = batch.answer_BT[answered_BT]
        if self.hints_only:
            answer, right = frames_NE.new_zeros(()), frames_NE.new_zeros(())
        else:
            logits_MV = model.language_model.logits(top_BTE[answered_BT]).float()
            answer = nn.functional.cross_entropy(logits_MV, targets_M)
            right = (logits_MV.detach().argmax(-1) == targets_M).float().mean()
        hints_NE = model.hint_norm(middle_BTE[batch.tokens_BT == model.config.tokens.frame])
        embedding_VE = model.language_model.embedding.weight[1 : model.num_pieces]
        pieces_NV = torch.cat([model.blank(hints_NE), hints_NE @ embedding_VE.T], dim=-1).float()
        parts = {
            "pieces": self._pieces(pieces_NV, batch),
            "spoken": nn.functional.cross_entropy(pieces_NV, batch.spoken_N),
            "speaker": nn.functional.cross_entropy(model.speaker(hints_NE).float(), batch.speakers_N),
            "time": self._time(model, hints_NE, batch.lengths_B),
        }
        total = answer + self.piece_weight * parts["pieces"] + self.spoken_weight * parts["spoken"]
        total = total + self.speaker_weight * parts["speaker"] + self.time_weight * parts["time"]
        metrics = {"answer": answer.detach(), **{name: value.detach() for name, value in parts.items()}}
        metrics["right"] = right
        rows = len(batch.tokens_BT)
        return Loss(total * rows, rows, metrics, samples=rows)

    def _pieces(self, logits_NV: Tensor, batch: Batch) -> Tensor:
        """Connectionist temporal classification; class 0, a control token, stands for the blank."""
        rows = logits_NV.log_softmax(-1).split(batch.lengths_B.tolist())
        padded_TBV = nn.utils.rnn.pad_sequence(list(rows))
        losses_B = nn.functional.ctc_loss(
            padded_TBV,
            batch.pieces_BS,
            batch.lengths_B,
            batch.piece_counts_B,
            reduction="none",
            zero_infinity=True,
        )
        return losses_B.sum() / batch.piece_counts_B.sum().clamp_min(1)

    def _time(self, model: Listener, hints_NE: Tensor, lengths_B: Tensor) -> Tensor:
        time_N = torch.cat([torch.arange(int(length)) for length in lengths_B]).to(hints_NE.device)
        time_N = time_N * POSITION_SECONDS + 1e-3
        second_N = time_N.long()
        fraction_N = ((time_N - second_N) * FRACTIONS).long()
        second = nn.functional.cross_entropy(model.second(hints_NE).float(), second_N.clamp_max(SECONDS - 1))
        return second + nn.functional.cross_entropy(model.fraction(hints_NE).float(), fraction_N)


def _gaps(lengths_B: Tensor) -> Tensor:
    """Float (N,): zeros for some stretches of up to six positions in each row."""
    kept: list[Tensor] = []
    for length in lengths_B.tolist():
        row = torch.ones(length)
        for _ in range(int(length) // 40 + 1):
            at, span = int(torch.randint(length, ())), int(torch.randint(1, 7, ()))
            row[at : at + span] = 0.0
        kept.append(row)
    return torch.cat(kept).to(lengths_B.device)
