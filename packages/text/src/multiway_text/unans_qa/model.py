"""Pair-to-sequence: LSTMs over context and question, attention between them, a decoder that copies from both.

A decoder state attends to each source; a softmax over its output decides between writing a piece of the vocabulary and
copying one from a source, by the attention. A place whose piece follows the piece that was written last gets a learnt
bonus, so that going on with a copy need not be found out from thousands of pairs. The output layer is tied to the
embeddings.

Shape suffixes: B rows, S source pieces, P context pieces, Q question pieces, T target pieces, V vocabulary,
E embedding size, H two directions of an LSTM, K = 1 + sources ways to get a piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from multiway_text.unans_qa.config import UnansQaConfig

NUM_TAGS = 3
"""Of a source's pieces: context, answer, question."""
_SMALLEST = 1e-30


class Source(NamedTuple):
    """Padded pieces, int64 (B, S), and the tag of each."""

    ids_BS: Tensor
    tags_BS: Tensor


class Memory(NamedTuple):
    """A source as the decoder reads it: pieces, those before them, and False at padding."""

    ids_BS: Tensor
    before_BS: Tensor
    valid_BS: Tensor
    states_BSH: Tensor
    keys_BSH: Tensor


class State(NamedTuple):
    """The decoder's LSTM, each (1, B, H)."""

    hidden: Tensor
    cell: Tensor


class Mixture(NamedTuple):
    """The distribution of the next piece: probabilities of the ways (B, T, K), logits of the vocabulary (B, T, V), and
    probabilities of the places of each source (B, T, S)."""

    ways_BTK: Tensor
    logits_BTV: Tensor
    copied: list[Tensor]

    def log_probs(self, memories: Sequence[Memory]) -> Tensor:
        """Of every piece, (B, T, V). A piece that stands several times in a source has the sum."""
        total_BTV = self.ways_BTK[..., :1] * self.logits_BTV.softmax(2)
        for way, (copied_BTS, memory) in enumerate(zip(self.copied, memories, strict=True), 1):
            share_BTS = self.ways_BTK[..., way, None] * copied_BTS
            total_BTV = total_BTV.scatter_add(2, memory.ids_BS[:, None].expand_as(share_BTS), share_BTS)
        return total_BTV.clamp_min(_SMALLEST).log()

    def log_probs_of(self, targets_BT: Tensor, memories: Sequence[Memory]) -> Tensor:
        """Of one piece a place, (B, T): what :meth:`log_probs` has there, without the others."""
        logit_BT = self.logits_BTV.gather(2, targets_BT[..., None])[..., 0]
        ways = [(logit_BT - self.logits_BTV.logsumexp(2)).exp()]
        for copied_BTS, memory in zip(self.copied, memories, strict=True):
            ways.append((copied_BTS * (memory.ids_BS[:, None] == targets_BT[..., None])).sum(2))
        return (self.ways_BTK * torch.stack(ways, 2)).sum(2).clamp_min(_SMALLEST).log()


class BiLSTM(nn.Module):
    """An LSTM in each direction over padded rows, each row as if it were alone.

    The second reads rows that are turned round within their lengths, so that padding stays behind. That is what
    `torch.nn.LSTM` computes on a packed sequence, which on a CPU takes more than twice as long.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.forwards = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.backwards = nn.LSTM(input_size, hidden_size, batch_first=True)

    def forward(self, x_BSE: Tensor, valid_BS: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, S, H), meaningless at padding, and the last of each direction, (B, H)."""
        last_B1 = valid_BS.sum(1, keepdim=True) - 1
        place_S = torch.arange(x_BSE.shape[1], device=x_BSE.device)
        turned_BS1 = torch.where(valid_BS, last_B1 - place_S, place_S)[..., None]
        forwards, _ = self.forwards(x_BSE)
        backwards, _ = self.backwards(x_BSE.gather(1, turned_BS1.expand_as(x_BSE)))
        ends = [
            states.gather(1, last_B1[..., None].expand(-1, 1, states.shape[2]))[:, 0]
            for states in (forwards, backwards)
        ]
        backwards = backwards.gather(1, turned_BS1.expand_as(backwards))
        return torch.cat([forwards, backwards], 2), torch.cat(ends, 1)


class Fusion(nn.Module):
    """A gate between a state x and tanh of a linear map of [x; y]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, 2 * width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., H) and (..., H) -> (..., H)."""
        new, gate = self.linear(torch.cat([x, y], -1)).chunk(2, -1)
        return torch.lerp(x, new.tanh(), gate.sigmoid())


class PairEncoder(nn.Module):
    """Context and question apart; each is compared with the other and read again."""

    num_sources = 2

    def __init__(self, config: UnansQaConfig) -> None:
        super().__init__()
        width = 2 * config.hidden_size
        self.first = nn.ModuleList(BiLSTM(config.embedding_size, config.hidden_size) for _ in range(2))
        self.similarity = nn.Linear(width, width, bias=False)
        self.fusion = nn.ModuleList(Fusion(width) for _ in range(2))
        self.second = nn.ModuleList(BiLSTM(width, config.hidden_size) for _ in range(2))

    def forward(self, x: Sequence[Tensor], valid: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """States and last states of both."""
        context_BPH, question_BQH = (self.first[i](x[i], valid[i])[0] for i in range(2))
        scores_BPQ = self.similarity(context_BPH) @ question_BQH.transpose(1, 2)
        of_question_BPH = _attention(scores_BPQ, valid[1]) @ question_BQH
        of_context_BQH = _attention(scores_BPQ.transpose(1, 2), valid[0]) @ context_BPH
        fused = self.fusion[0](context_BPH, of_question_BPH), self.fusion[1](question_BQH, of_context_BQH)
        return [self.second[i](fused[i], valid[i]) for i in range(2)]


class JointEncoder(nn.Module):
    """The baseline: one LSTM over context and question as one text."""

    num_sources = 1

    def __init__(self, config: UnansQaConfig) -> None:
        super().__init__()
        self.lstm = BiLSTM(config.embedding_size, config.hidden_size)

    def forward(self, x: Sequence[Tensor], valid: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """States and last states of the one source."""
        return [self.lstm(x[0], valid[0])]


class QuestionGenerator(nn.Module):
    """Sources to the twin of a question."""

    def __init__(self, config: UnansQaConfig) -> None:
        super().__init__()
        self.config = config
        width, embedding = 2 * config.hidden_size, config.embedding_size
        self.token_embedding = nn.Embedding(config.vocab_size, embedding, padding_idx=config.pad_id)
        self.tag_embedding = nn.Embedding(NUM_TAGS, embedding)
        for table in (self.token_embedding, self.tag_embedding):
            nn.init.normal_(table.weight, std=embedding**-0.5)
        encoder = PairEncoder if config.arch == "pair2seq" else JointEncoder
        self.encoder: PairEncoder | JointEncoder = encoder(config)
        sources = self.encoder.num_sources
        self.start = nn.Linear(sources * width, 2 * width)
        self.decoder = nn.LSTM(embedding, width, batch_first=True)
        self.keys = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(sources))
        self.follow = nn.Parameter(torch.full((sources,), 2.0))
        self.ways = nn.Linear((1 + sources) * width, 1 + sources)
        self.output = nn.Linear((1 + sources) * width, embedding)
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))

    @torch.no_grad()
    def start_embedding(self, vectors_VE: Tensor) -> None:
        """Begin with these vectors of any width: their leading principal components, as long as random rows are."""
        size = self.config.embedding_size
        rows_VE = vectors_VE - vectors_VE.mean(0)
        _, _, axes_EE = torch.linalg.svd(rows_VE, full_matrices=False)
        rows_VE = rows_VE @ axes_EE[:size].T
        rows_VE = rows_VE / rows_VE.norm(dim=1).mean().clamp_min(_SMALLEST)
        self.token_embedding.weight.normal_(std=size**-0.5)
        self.token_embedding.weight[:, : rows_VE.shape[1]] = rows_VE
        self.token_embedding.weight[self.config.pad_id] = 0

    def read(self, sources: Sequence[Source]) -> tuple[list[Memory], State]:
        """What the decoder attends to, and where it begins."""
        valid = [source.ids_BS != self.config.pad_id for source in sources]
        x = [self._embed(source.ids_BS) + self.tag_embedding(source.tags_BS) for source in sources]
        read = self.encoder(x, valid)
        memories = []
        for source, valid_BS, (states_BSH, _), keys in zip(sources, valid, read, self.keys, strict=True):
            before_BS = nn.functional.pad(source.ids_BS[:, :-1], (1, 0), value=self.config.begin_id)
            memories.append(Memory(source.ids_BS, before_BS, valid_BS, states_BSH, keys(states_BSH)))
        start_BH = self.start(torch.cat([last for _, last in read], 1)).tanh()
        hidden_BH, cell_BH = start_BH.chunk(2, 1)
        return memories, State(hidden_BH[None].contiguous(), cell_BH[None].contiguous())

    def decode(self, tokens_BT: Tensor, state: State, memories: Sequence[Memory]) -> tuple[Mixture, State]:
        """What follows each of these pieces, and the state behind the last."""
        states_BTH, (hidden, cell) = self.decoder(self._embed(tokens_BT), tuple(state))
        copied = []
        for follow, memory in zip(self.follow, memories, strict=True):
            follows_BTS = memory.before_BS[:, None] == tokens_BT[..., None]
            scores_BTS = states_BTH @ memory.keys_BSH.transpose(1, 2) + follow * follows_BTS
            copied.append(_attention(scores_BTS, memory.valid_BS))
        seen = [attention @ m.states_BSH for attention, m in zip(copied, memories, strict=True)]
        joined = dropout(torch.cat([states_BTH, *seen], 2), self.config.dropout, self.training)
        written_BTE = self.output(joined).tanh()
        logits_BTV = nn.functional.linear(written_BTE, self.token_embedding.weight, self.output_bias)
        return Mixture(self.ways(joined).softmax(2), logits_BTV, copied), State(hidden, cell)

    def _embed(self, tokens: Tensor) -> Tensor:
        return dropout(self.token_embedding(tokens), self.config.dropout, self.training)


def _attention(scores_BTS: Tensor, valid_BS: Tensor) -> Tensor:
    return scores_BTS.masked_fill(~valid_BS[:, None], -torch.inf).softmax(2)
