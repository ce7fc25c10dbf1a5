"""Trace of the network for one reader: attention, gates, and the share of each click and view in the user vector.

Shape suffixes: M clicks, E hidden size, K chains of a click, L hops, V views, H heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from multiway_recsys.glocim.attention import SelfAttention, masked_softmax
from multiway_recsys.glocim.features import Features
from multiway_recsys.glocim.long_chain_encoder import HierarchicalChainEncoder, ReleasedChainEncoder
from multiway_recsys.glocim.model import ClickedNews, EncodedNews, Glocim
from multiway_recsys.glocim.user_encoder import AttentionUserEncoder

CONTENT, NEIGHBOURS, CHAINS, ENTITIES, READER = "content", "neighbours", "chains", "entities", "reader"


@dataclass(frozen=True)
class Trace:
    """M clicks of one reader, oldest first.

    ``parts`` splits the user vector without a rest: the user encoder is a weighted sum of the clicks' value vectors and
    the click encoder a weighted sum of its views, so with the weights as they were the vector is a sum over clicks and
    views. The gated view is once more split by its gate into what neighbours and what chains bring. (LSTUR's recurrent
    encoder is no such sum: there the vector is one part.)
    """

    history_M: NDArray[np.int64]  # rows of the news table
    user_d: NDArray[np.float32]
    click_weights_M: NDArray[np.float32]  # how much each click counts, sum 1
    collaborative_M: NDArray[np.float32]  # how much of a click is its neighbours and chains, 0 to 1
    gate_M: NDArray[np.float32]  # how much of that is neighbours, the rest is chains; mean over the vector
    chains_MKL: NDArray[np.int32]  # rows of the news table, 0 where a chain has ended
    chain_weights_MKL: NDArray[np.float32]  # attention inside each chain
    parts: dict[str, NDArray[np.float32]]  # name -> (M, E); the sum over names and M is user_d
    without_click_Md: NDArray[np.float32]  # the user vector when the click had not happened
    without_chain_Md: NDArray[np.float32]  # when the click had no chain
    without_chains_d: NDArray[np.float32]  # when no click had one

    def score_parts(self, candidate_d: NDArray[np.float32]) -> dict[str, float]:
        """How the inner product with a candidate comes about, by part."""
        return {name: float((vectors_Md @ candidate_d).sum()) for name, vectors_Md in self.parts.items()}


@torch.no_grad()
def trace(
    model: Glocim,
    encoded: EncodedNews,
    features: Features,
    history: NDArray[np.integer],
    *,
    chains: bool = True,
    occlusion: bool = True,
) -> Trace:
    """Follow one reader's history (rows of the news, oldest first, at least one, none unknown) through the network.

    With ``chains=False`` as if no click had a chain; with ``occlusion=False`` nothing is left out for a check (the
    vectors without it are then the reader's own). The model must be in evaluation mode.
    """
    config = model.config
    history_M = np.asarray(history, np.int64)[-config.history_length :]
    count = len(history_M)
    device = encoded.candidates_NE.device
    # A small table of the clicked news instead of the catalogue, and once more without chains: rows 1..M and M+1..2M.
    rows = torch.from_numpy(np.concatenate([[0], history_M, history_M])).to(device)
    bare = torch.arange(2 * count + 1, device=device) > (0 if not chains else count)
    clicked = _rows(encoded.clicked, rows, bare)
    width = config.history_length if config.chain == "released" else count
    cases_BM = np.tile(np.arange(1, count + 1), (2 * count + 2 if occlusion else 1, 1))
    for place in range(count if occlusion else 0):
        cases_BM[1 + place, history_M == history_M[place]] = (
            0  # the same news clicked twice is one click here
        )
        cases_BM[1 + count + place, place] += count
    if occlusion:
        cases_BM[-1] += count
    clicks_BM = torch.from_numpy(_right_aligned(cases_BM, width)).to(device)
    users_BE = model.users(clicked, clicks_BM, clicks_BM > 0)

    first_BM, mask_BM = clicks_BM[:1], clicks_BM[:1] > 0
    names, views, collaborative_M, gate_M = _named_views(model, clicked, first_BM, mask_BM)
    views_VME = [view[0, -count:] for view in views]
    weights_MV = _view_weights(model, clicked, first_BM, mask_BM)[0, -count:]
    parts_E, click_weights_M = _parts(
        model, clicked, first_BM, mask_BM, names, views_VME, weights_MV, gate_M[-count:], users_BE[0]
    )
    chain_rows_MKL, chain_weights_MKL = _chain_weights(model, encoded, features, history_M, chains)
    arrays = [array.float().cpu().numpy() for array in (users_BE, click_weights_M, collaborative_M[-count:])]
    users, click_weights, collaborative = arrays
    return Trace(
        history_M=history_M,
        user_d=users[0],
        click_weights_M=click_weights,
        collaborative_M=collaborative,
        gate_M=gate_M[-count:].float().cpu().numpy(),
        chains_MKL=chain_rows_MKL,
        chain_weights_MKL=chain_weights_MKL,
        parts={name: part.float().cpu().numpy() for name, part in parts_E.items()},
        without_click_Md=users[1 : count + 1] if occlusion else np.tile(users[0], (count, 1)),
        without_chain_Md=users[count + 1 : 2 * count + 1] if occlusion else np.tile(users[0], (count, 1)),
        without_chains_d=users[-1],
    )


def without_chains(clicked: ClickedNews) -> ClickedNews:
    """The same news as if none had a chain."""
    return replace(
        clicked,
        has_chain_R=None if clicked.has_chain_R is None else torch.zeros_like(clicked.has_chain_R),
        chains_RKL=None if clicked.chains_RKL is None else torch.zeros_like(clicked.chains_RKL),
    )


def _rows(clicked: ClickedNews, rows: Tensor, bare: Tensor) -> ClickedNews:
    def taken(table: Tensor | None) -> Tensor | None:
        return None if table is None else table[rows]

    has_chain, chains = taken(clicked.has_chain_R), taken(clicked.chains_RKL)
    return ClickedNews(
        local_RE=clicked.local_RE[rows],
        neighbour_RE=taken(clicked.neighbour_RE),
        chain_RE=taken(clicked.chain_RE),
        has_chain_R=None if has_chain is None else has_chain & ~bare,
        entity_RE=taken(clicked.entity_RE),
        chains_RKL=None if chains is None else chains * ~bare[:, None, None],
        source_NE=clicked.source_NE,
    )


def _right_aligned(cases_BM: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Real clicks moved to the right end of ``width`` places, in their order."""
    aligned = np.zeros((len(cases_BM), width), np.int64)
    for row, case in zip(aligned, cases_BM, strict=True):
        real = case[case > 0]
        row[width - len(real) :] = real
    return aligned


def _named_views(
    model: Glocim, clicked: ClickedNews, clicks_BM: Tensor, mask_BM: Tensor
) -> tuple[list[tuple[str, int]], list[Tensor], Tensor, Tensor]:
    """Pieces of the click encoder's views: (name, which view), the pieces; the collaborative share and the gate."""
    local, neighbour, chain, has_chain = model.interests(clicked, clicks_BM, mask_BM)
    names: list[tuple[str, int]] = [(CONTENT, 0)]
    pieces = [local]
    gate_M = torch.ones(clicks_BM.shape[1], device=local.device)
    collaborative: list[int] = []
    if neighbour is not None and chain is not None and model.config.gate != "none":
        collaborative = [1]
        names += [(NEIGHBOURS, 1), (CHAINS, 1)]
        walked = torch.ones_like(mask_BM) if has_chain is None else has_chain
        if model.gate is not None:
            gates = torch.where(walked[..., None], model.gate.gates(neighbour, chain), 1.0)
            fused = torch.tanh(model.gate.fused(torch.cat([neighbour, chain], dim=-1)))
            fused = chain + fused if model.gate.residual else fused
            pieces += [gates * neighbour, (1 - gates) * fused]
            gate_M = gates[0].mean(dim=-1)
        else:
            pieces += [neighbour, chain * walked[..., None]]
            gate_M = torch.where(walked[0], 0.5, 1.0)
    else:
        for name, view in ((NEIGHBOURS, neighbour), (CHAINS, chain)):
            if view is not None:
                collaborative.append(1 + len(collaborative))
                names.append((name, collaborative[-1]))
                pieces.append(view)
        if neighbour is None and chain is not None:
            gate_M = torch.zeros_like(gate_M)
        elif chain is not None:
            gate_M = torch.full_like(gate_M, 0.5)
    if clicked.entity_RE is not None:
        names.append((ENTITIES, 1 + len(collaborative)))
        pieces.append(nn.functional.embedding(clicks_BM, clicked.entity_RE))
    weights_MV = _view_weights(model, clicked, clicks_BM, mask_BM)[0]
    share_M = weights_MV[:, collaborative].sum(dim=1) if collaborative else torch.zeros_like(gate_M)
    return names, pieces, share_M, gate_M


def _view_weights(model: Glocim, clicked: ClickedNews, clicks_BM: Tensor, mask_BM: Tensor) -> Tensor:
    views = model.views(clicked, clicks_BM, mask_BM)
    if model.click_encoder is None:
        return views[0].new_ones(*clicks_BM.shape, 1)
    return model.click_encoder.weights(views)


def _parts(
    model: Glocim,
    clicked: ClickedNews,
    clicks_BM: Tensor,
    mask_BM: Tensor,
    names: list[tuple[str, int]],
    pieces: list[Tensor],
    weights_MV: Tensor,
    gate_M: Tensor,
    user_E: Tensor,
) -> tuple[dict[str, Tensor], Tensor]:
    """The user vector as a sum over named pieces and clicks, and the weight of each click."""
    count = len(weights_MV)
    encoder = model.user_encoder
    if not isinstance(encoder, AttentionUserEncoder):
        even_M = torch.full((count,), 1 / count, device=user_E.device)
        return {READER: even_M[:, None] * user_E}, even_M
    clicks_ME = model.clicks(clicked, clicks_BM, mask_BM)[:, -count:]
    everywhere = torch.ones(1, count, dtype=torch.bool, device=user_E.device)
    pooled_M = encoder.weights(clicks_ME, everywhere)[0]
    attention = encoder.attention
    parts: dict[str, Tensor] = {}
    if attention is None:
        for (name, view), piece_ME in zip(names, pieces, strict=True):
            parts[name] = (pooled_M * weights_MV[:, view])[:, None] * piece_ME
        return parts, pooled_M
    # What each click's value vector is multiplied with in the end, by head: pooling after attention.
    influence_HM = torch.einsum("t,hts->hs", pooled_M, _attention_weights(attention, clicks_ME)[0])
    value, heads = attention.value, (attention.num_heads, attention.head_dim)
    for (name, view), piece_ME in zip(names, pieces, strict=True):
        weighted_MHD = nn.functional.linear(piece_ME * weights_MV[:, view, None], value.weight).unflatten(
            1, heads
        )
        parts[name] = (weighted_MHD * influence_HM.T[..., None]).flatten(1)
        if encoder.residual:
            parts[name] = parts[name] + (pooled_M * weights_MV[:, view])[:, None] * piece_ME
    # The bias of the values goes to the views by their weights, and inside the fused view by its gate: once in all.
    share_of = {NEIGHBOURS: gate_M, CHAINS: 1 - gate_M}
    is_fused = len({view for _, view in names}) < len(names)
    for name, view in names:
        share_M = weights_MV[:, view] * (share_of.get(name, 1.0) if is_fused else 1.0)
        bias_MHD = (share_M[:, None] * value.bias).unflatten(1, heads)
        parts[name] = parts[name] + (bias_MHD * influence_HM.T[..., None]).flatten(1)
    mixed_M = influence_HM.mean(dim=0)
    return parts, (pooled_M + mixed_M) / 2 if encoder.residual else mixed_M


def _attention_weights(attention: SelfAttention, x_BME: Tensor) -> Tensor:
    """The weights that the attention mixes its values with: (B, H, M, M)."""
    heads = (attention.num_heads, attention.head_dim)
    query, key = (
        project(x_BME).unflatten(-1, heads).transpose(1, 2) for project in (attention.query, attention.key)
    )
    return masked_softmax(query * attention.head_dim**-0.5 @ key.transpose(-1, -2), None)


def _chain_weights(
    model: Glocim, encoded: EncodedNews, features: Features, history_M: NDArray[np.int64], chains: bool
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    config = model.config
    if model.chain_encoder is None or features.chains is None or not chains:
        return np.zeros((len(history_M), 0, 0), np.int32), np.zeros((len(history_M), 0, 0), np.float32)
    rows_MKL = features.chains[history_M, : config.chains_per_news, : config.chain_length]
    mask_MKL = rows_MKL > 0
    if isinstance(model.chain_encoder, ReleasedChainEncoder):  # its weights depend on all chains at once
        weights = mask_MKL / np.maximum(mask_MKL.sum(axis=2, keepdims=True), 1)
        return rows_MKL, weights.astype(np.float32)
    assert isinstance(model.chain_encoder, HierarchicalChainEncoder)
    device = encoded.candidates_NE.device
    values = encoded.clicked.local_RE[torch.from_numpy(rows_MKL.astype(np.int64)).to(device)]
    weights_MKL = model.chain_encoder.hop_weights(values, torch.from_numpy(mask_MKL).to(device))
    return rows_MKL, weights_MKL.float().cpu().numpy()
