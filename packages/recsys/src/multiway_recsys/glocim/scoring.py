"""Scores of whole tables of impressions, for evaluation and leaderboard files."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from multiway_recsys.data.tables import NO_NEWS, Behaviors, Ragged
from multiway_recsys.glocim.batch import BatchMaker, moved
from multiway_recsys.glocim.batches import trimmed
from multiway_recsys.glocim.features import Features, first_values, last_values
from multiway_recsys.glocim.model import EncodedNews, Glocim


@torch.no_grad()
def score_behaviors(
    model: Glocim,
    features: Features,
    behaviors: Behaviors,
    *,
    batch_size: int = 256,
    encoded: EncodedNews | None = None,
) -> NDArray[np.float32]:
    """One score a candidate, aligned with ``behaviors.candidates.values``.

    News are encoded once (``encoded`` saves doing it again), readers in batches of equal length, so the time does not
    depend on how many candidates are shown. A reader without history gets the vector of cold readers. With
    ``graph_batch="blockdiag"`` each reader's own subgraph is used, as in the published code.
    """
    was_training = model.training
    model.eval()
    try:
        if model.config.neighbour != "none" and model.config.graph_batch == "blockdiag" and encoded is None:
            return _score_apart(model, features, behaviors, batch_size)
        encoded = model.encode_news(features) if encoded is None else encoded
        users_ME = user_vectors(
            model, encoded, behaviors.histories, users=behaviors.users, batch_size=batch_size
        )
        scores = np.zeros(len(behaviors.candidates.values), np.float32)
        rows = np.repeat(np.arange(len(behaviors)), behaviors.candidates.lengths)
        at_once = 1 << 16
        for start in range(0, len(scores), at_once):
            part = slice(start, start + at_once)
            candidates = torch.from_numpy(behaviors.candidates.values[part].astype(np.int64)).to(
                users_ME.device
            )
            users = torch.from_numpy(rows[part]).to(users_ME.device)
            found = (encoded.candidates_NE[candidates] * users_ME[users]).sum(dim=1).float()
            if model.popularity is not None:
                assert features.statistics is not None
                known = features.statistics.at(behaviors.candidates.values[part], behaviors.times[rows[part]])
                found = found + model.popularity(torch.from_numpy(known).to(found.device))
            scores[part] = found.float().cpu().numpy()
        return scores
    finally:
        model.train(was_training)


@torch.no_grad()
def user_vectors(
    model: Glocim,
    encoded: EncodedNews,
    histories: Ragged,
    *,
    users: NDArray[np.integer] | None = None,
    batch_size: int = 256,
) -> torch.Tensor:
    """Reader vectors (len(histories), E) of histories that are oldest first. In evaluation mode.

    Readers are taken in the order of their histories' lengths, so that little is padding. Unknown news (0) in a
    history do not count.
    """
    was_training = model.training
    if was_training:  # going through all modules would be a sixth of a small request
        model.eval()
    device = encoded.candidates_NE.device
    config = model.config
    result = encoded.candidates_NE.new_zeros(len(histories), config.hidden_size)
    order = np.argsort(np.minimum(histories.lengths, config.history_length), kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        clicks = trimmed(
            last_values(histories.values, histories.offsets, rows, config.history_length), config
        ).astype(np.int64)
        user_ids = None
        if users is not None:
            user_ids = torch.from_numpy(users[rows].astype(np.int64)).to(device)
        clicks_BH = torch.from_numpy(clicks).to(device)
        found = model.users(encoded.clicked, clicks_BH, clicks_BH != NO_NEWS, user_ids)
        result[torch.from_numpy(rows).to(device)] = found
    if was_training:
        model.train()
    return result


def _score_apart(
    model: Glocim, features: Features, behaviors: Behaviors, batch_size: int
) -> NDArray[np.float32]:
    make = BatchMaker(features, model.config)
    device = next(model.parameters()).device
    scores = np.zeros(len(behaviors.candidates.values), np.float32)
    counts = behaviors.candidates.lengths
    order = np.argsort(counts, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        width = int(counts[rows].max())
        if not width:
            continue
        shown = behaviors.candidates.take(rows)
        candidates_BC = first_values(shown.values, shown.offsets, width)
        mask_BC = np.arange(width) < counts[rows][:, None]
        histories_BH = last_values(
            behaviors.histories.values, behaviors.histories.offsets, rows, model.config.history_length
        )
        batch = make(
            trimmed(histories_BH, model.config),
            candidates_BC,
            candidates_mask_BC=mask_BC,
            users_B=behaviors.users[rows],
            times_B=behaviors.times[rows],
        )
        found = model(moved(batch, device)).float().cpu().numpy()
        places = behaviors.candidates.offsets[rows][:, None] + np.arange(width)
        scores[places[mask_BC]] = found[mask_BC]
    return scores
