"""Long chains: the path of each news' circle of readers through the click graph (GLoCIM, "long chain selection").

The rule needs the graph and the news, not the user, so chains are one table for all users, made offline; serving looks
them up. Whole batches of nodes take each step together. Presets:

* `ChainConfig()` is our rule: a step scores its weight, its likeness to the news before, and how many readers of the
  *whole path so far* also read the next news. Without that last term a path leaves its circle of readers within a few
  hops.
* `INTENDED` is what the released code means to do: walk to the neighbour most like the clicked news, six times.
* `RELEASED` is what the released code does. The step to the next node lies in the branch for a best score of exactly
  zero, so the walker stays: six copies of the best neighbour and four empty slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_recsys.data.tables import NO_NEWS
from multiway_recsys.graph.chain_scores import StepScores, in_single_precision, vector_lengths
from multiway_recsys.graph.click_graph import ClickGraph, Direction, check_direction, top_table
from multiway_recsys.graph.co_readers import CoReaders

Int32 = NDArray[np.int32]
Float64 = NDArray[np.float64]

SCORE_STEPS = (
    1_000_000  # scores are compared as whole millionths, so that rounding of the machine decides nothing
)
NODES_AT_ONCE = 4096
NEVER = np.iinfo(np.int64).min // 4


@dataclass(frozen=True)
class ChainConfig:
    """How chains are chosen. Greek letters are those of the scoring formula in `select_chains`."""

    rule: Literal["best", "intended", "released"] = "best"
    direction: Direction = "out"
    """Of the graph that the rule is meant for."""
    length: int = 8
    """Steps of a chain (L)."""
    slots: int | None = None
    """Width of the table; None: `length`. The released table has 10 slots for 6 steps."""
    branches: int = 8
    """Neighbours that are looked at in each step (B), the first of the graph's order."""
    num_chains: int = 1
    """Chains of each news (K)."""
    beam: int | None = None
    """Paths that are kept in each step; None: `num_chains`."""
    weight: float = 0.5
    """alpha: log(1 + users that made the step)."""
    similarity: float = 0.3
    """beta: cosine of the news and the next one."""
    support: float = 1.0
    """phi: co-readers of the next news among the readers of each earlier news of the path."""
    anchor: float = 0.0
    """gamma: cosine of the next news and the start."""
    category: float = 0.0
    """delta: the next news has the category of the start."""
    hubs: float = 0.0
    """rho, taken off: log(1 + users that read the next news)."""
    min_score: float | None = None
    """A path ends where no step scores at least this."""

    def __post_init__(self) -> None:
        check_direction(self.direction)
        for name in ("length", "branches", "num_chains"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.slots is not None and self.slots < self.length:
            raise ValueError(f"{self.slots} slots hold no chain of {self.length}; give {self.length} or more")
        if self.beam is not None and self.beam < self.num_chains:
            raise ValueError(f"a beam of {self.beam} cannot end in {self.num_chains} chains; widen it")
        if self.rule != "best" and (self.num_chains > 1 or self.beam is not None):
            raise ValueError(f"the rule {self.rule} makes one chain: num_chains 1 and no beam")

    @property
    def width(self) -> int:
        """Slots of a chain in the table."""
        return self.slots or self.length


INTENDED = ChainConfig(rule="intended", direction="in", length=6, slots=10, branches=3)
RELEASED = ChainConfig(rule="released", direction="in", length=6, slots=10, branches=3)
PRESETS = {"default": ChainConfig(), "intended": INTENDED, "released": RELEASED}


def select_chains(
    graph: ClickGraph,
    co_readers: CoReaders | None,
    vectors: NDArray[np.floating] | None,
    *,
    config: ChainConfig | None = None,
    categories: NDArray[np.integer] | None = None,
    nodes: NDArray[np.integer] | None = None,
) -> Int32:
    """(N, K, L) the chains of each news, best chain first, in walking order; 0 = empty. Chains do not hold the start.

    A step from z to j of the path a..z scores (our terms: the paper's formula could not be obtained)::

        alpha log1p(w(z,j)) + beta cos(z,j) + phi sum_{v in path} log1p(co(v,j) / sqrt(reads(j)))
        + gamma cos(a,j) + delta [category of j = category of a] - rho log1p(reads(j))

    No news comes twice. Paths are ranked by mean step score, equal ones by the graph's order of neighbours. The rules
    `intended` and `released` score by the dot product of `vectors` of start and neighbour instead.

    `vectors` (N, d) may be None (then beta and gamma count nothing; the two other rules need them); `co_readers` may be
    None if phi and rho are 0. `nodes` (M,): only the chains of these, as (M, K, L).

    Raises InputError: what the rule needs is missing or has another number of rows, or a graph of another direction.
    """
    config = config or ChainConfig()
    _check(graph, co_readers, vectors, categories, config)
    nodes = np.arange(len(graph)) if nodes is None else np.asarray(nodes)
    if config.rule == "best":
        scores = StepScores.prepare(graph, co_readers, vectors, categories, config)
        made = (_best_chains(scores, part, config) for part in _parts(nodes))
    else:
        assert vectors is not None
        table = top_table(graph, config.branches)[0]
        walk = _walk_released if config.rule == "released" else _walk_intended
        filled = vector_lengths(vectors) > 0
        vectors = in_single_precision(vectors)
        made = (walk(table, vectors, filled, part, config) for part in _parts(nodes))
    chains = np.zeros((len(nodes), config.num_chains, config.width), np.int32)
    done = 0
    for part in made:
        chains[done : done + len(part), :, : part.shape[2]] = part
        done += len(part)
    return chains


def _check(
    graph: ClickGraph,
    co_readers: CoReaders | None,
    vectors: NDArray[np.floating] | None,
    categories: NDArray[np.integer] | None,
    config: ChainConfig,
) -> None:
    if graph.direction != config.direction:
        raise InputError(
            f"chains of direction {config.direction} on a graph of direction {graph.direction}: "
            f"build the graph with direction={config.direction!r}, or change the rule"
        )
    wanted = {"co_readers": co_readers, "vectors": vectors, "categories": categories}
    for name, given in wanted.items():
        if given is not None and len(given) != len(graph):
            raise InputError(
                f"{name} of {len(given)} news for a graph of {len(graph)}: each news needs a row"
            )
    if vectors is not None and vectors.ndim != 2:
        raise InputError(f"vectors of shape {vectors.shape}: one row a news is needed, (news, numbers)")
    if config.rule != "best":
        if vectors is None:
            raise InputError(f"the rule {config.rule} compares the vectors of news: give them")
    elif co_readers is None and (config.support or config.hubs):
        raise InputError("co-readers are missing: give them, or set support and hubs to 0")
    if config.rule == "best" and config.category and categories is None:
        raise InputError("categories are missing: give them, or set category to 0")


def _parts(nodes: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    for low in range(0, len(nodes), NODES_AT_ONCE):
        yield nodes[low : low + NODES_AT_ONCE]


def _best_chains(scores: StepScores, starts: NDArray[np.integer], config: ChainConfig) -> Int32:
    """(S, K, L) by beam search. S starts, P paths of each, B branches, T news of a path so far."""
    beam, branches = config.beam or config.num_chains, config.branches
    num_starts = len(starts)
    path_SPT = np.zeros((num_starts, beam, config.length + 1), np.int32)
    path_SPT[:, :, 0] = starts[:, None]
    total_SP = np.zeros((num_starts, beam), np.int64)  # millionths
    steps_SP = np.zeros((num_starts, beam), np.int64)
    walking_SP = np.zeros((num_starts, beam), bool)
    walking_SP[:, 0] = True
    for step in range(config.length):
        if not walking_SP.any():
            break
        candidates, allowed, score = _extensions(scores, path_SPT[:, :, : step + 1], walking_SP, config)
        walking_SP &= allowed.any(2)
        if beam == 1:
            best = np.where(allowed, score, NEVER)[:, 0].argmax(1)
            rows = np.flatnonzero(walking_SP[:, 0])
            path_SPT[rows, 0, step + 1] = candidates[rows, 0, best[rows]]
            continue
        # Of each path its B extensions, and itself where it has ended: all compete by their mean score.
        mean = np.full((num_starts, beam, branches + 1), -np.inf)
        extended = total_SP[:, :, None] + score
        mean[:, :, :-1] = np.where(allowed, extended / (step + 1), -np.inf)
        ended = ~walking_SP & (steps_SP > 0)
        mean[:, :, -1] = np.where(ended, total_SP / np.maximum(steps_SP, 1), -np.inf)
        order = np.argsort(-mean.reshape(num_starts, -1), axis=1, kind="stable")[:, :beam]
        rows = np.arange(num_starts)[:, None]
        parent, branch = order // (branches + 1), order % (branches + 1)
        exists = np.isfinite(mean.reshape(num_starts, -1)[rows, order])
        goes_on = exists & (branch < branches)
        slot = np.minimum(branch, branches - 1)
        path_SPT = path_SPT[rows, parent]
        path_SPT[:, :, step + 1] = np.where(goes_on, candidates[rows, parent, slot], NO_NEWS)
        total_SP = np.where(goes_on, extended[rows, parent, slot], total_SP[rows, parent])
        steps_SP = np.where(exists, np.where(goes_on, step + 1, steps_SP[rows, parent]), 0)
        path_SPT[:, :, 1:] *= exists[:, :, None]
        walking_SP = goes_on
    return path_SPT[:, : config.num_chains, 1:]


def _extensions(
    scores: StepScores, path_SPT: Int32, walking_SP: NDArray[np.bool_], config: ChainConfig
) -> tuple[Int32, NDArray[np.bool_], NDArray[np.int64]]:
    """Candidates (S, P, B) of each path, which of them it may go to, and their scores in millionths."""
    last = path_SPT[:, :, -1]
    candidates = scores.candidates_NB[last]
    allowed = (candidates != NO_NEWS) & walking_SP[:, :, None]
    for place in range(path_SPT.shape[2]):
        allowed &= candidates != path_SPT[:, :, place, None]
    score = np.zeros(candidates.shape, np.int64)
    starts, paths, slots = np.nonzero(allowed)
    exact = scores.of_paths(
        path_SPT[starts, paths], candidates[starts, paths, slots], scores.edge_NB[last[starts, paths], slots]
    )
    score[starts, paths, slots] = np.rint(exact * SCORE_STEPS).astype(np.int64)
    if config.min_score is not None:
        allowed &= score >= round(config.min_score * SCORE_STEPS)
    return candidates, allowed, score


def _walk_intended(
    table: Int32,
    vectors: NDArray[np.floating],
    filled: NDArray[np.bool_],
    starts: NDArray[np.integer],
    config: ChainConfig,
) -> Int32:
    chains = np.zeros((len(starts), 1, config.length), np.int32)
    here = starts.copy()
    walking = filled[starts]
    for step in range(config.length):
        candidates = table[here]
        score = _likeness(vectors, starts, candidates)
        allowed = (candidates != NO_NEWS) & filled[candidates] & walking[:, None]
        best = np.where(allowed, score, -np.inf).argmax(1)
        walking = allowed.any(1)
        here = np.where(walking, candidates[np.arange(len(starts)), best], here)
        chains[:, 0, step] = np.where(walking, here, NO_NEWS)
    return chains


def _walk_released(
    table: Int32,
    vectors: NDArray[np.floating],
    filled: NDArray[np.bool_],
    starts: NDArray[np.integer],
    config: ChainConfig,
) -> Int32:
    """Step by step what the released loop does; empty places of its table are zero vectors, which score 0."""
    chains = np.zeros((len(starts), 1, config.length), np.int32)
    here = starts.copy()
    walking = filled[starts]
    rows = np.arange(len(starts))
    for step in range(config.length):
        candidates = table[here]
        score = np.where(candidates != NO_NEWS, _likeness(vectors, starts, candidates), 0.0)
        best = score.argmax(1)
        best_is_zero = score[rows, best] == 0
        other = np.where(score != 0, score, -np.inf)
        best = np.where(best_is_zero, other.argmax(1), best)
        walking &= ~best_is_zero | np.isfinite(other).any(1)
        chosen = candidates[rows, best]
        chains[:, 0, step] = np.where(walking, chosen, NO_NEWS)
        here = np.where(walking & best_is_zero, chosen, here)  # the only branch that moves
    return chains


def _likeness(vectors: NDArray[np.floating], starts: NDArray[np.integer], candidates: Int32) -> Float64:
    """(S, B) dot products of each start with its candidates, to millionths."""
    anchors, others = (vectors[rows].astype(np.float32, copy=False) for rows in (starts, candidates))
    product = np.matmul(others, anchors[:, :, None])[:, :, 0].astype(np.float64)
    return np.rint(product * SCORE_STEPS) / SCORE_STEPS


def random_chains(chains: Int32, graph: ClickGraph, *, seed: int) -> Int32:
    """Control: every filled slot holds a news drawn from all that have an edge, the start left out.

    Keeps how many news each chain has, so a model has the same capacity, and nothing of what they are.
    """
    generator = np.random.default_rng(seed)
    linked = np.zeros(len(graph), bool)
    linked[graph.indices] = True
    linked |= graph.degrees > 0
    pool = np.flatnonzero(linked).astype(np.int32)
    if not len(pool):
        return chains.copy()
    places = generator.integers(0, len(pool), chains.shape)
    drawn = pool[places]
    start = np.arange(len(chains), dtype=np.int32).reshape(-1, *(1,) * (chains.ndim - 1))
    drawn = np.where(drawn == start, pool[(places + 1) % len(pool)], drawn)
    return np.where(chains != NO_NEWS, drawn, NO_NEWS).astype(np.int32)


def shuffled_chains(chains: Int32, *, seed: int) -> Int32:
    """Control: every news that has a chain gets that of another news: true chains, of the wrong readers."""
    generator = np.random.default_rng(seed)
    filled = np.flatnonzero((chains != NO_NEWS).reshape(len(chains), -1).any(1))
    order = generator.permutation(filled)
    shuffled = chains.copy()
    shuffled[order] = chains[np.roll(order, 1)]  # along one circle through all of them: nobody keeps the own
    return shuffled
