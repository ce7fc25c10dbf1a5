"""Training of a recommender from a log: texts, graph and chains, the network, and the folder that serves it.

Read it from :meth:`Recipe.build`. The command, the benchmarks and the tests all take this path.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions
from numpy.typing import NDArray
from torch import nn

from multiway_recsys.collaborative.recommender import is_simulated
from multiway_recsys.data.mind import MindData, read_folder
from multiway_recsys.data.tables import Behaviors, News
from multiway_recsys.feature_extraction import (
    click_structure,
    renumbered,
    text_source,
    with_clicks,
    with_texts,
)
from multiway_recsys.glocim.config import PRESETS, GlocimConfig
from multiway_recsys.glocim.model import Glocim
from multiway_recsys.glocim.objective import negative_sampling
from multiway_recsys.glocim.scoring import score_behaviors
from multiway_recsys.graph import INTENDED, RELEASED_CHAINS, ChainConfig
from multiway_recsys.metrics.ranking import evaluate_ranking
from multiway_recsys.periods import LogPeriod, Period, PeriodBatches, held_out, log_periods
from multiway_recsys.serving import folder as model_folder
from multiway_recsys.serving.folder import About, Readers, TrainedRecommender
from multiway_recsys.serving.text_source import TextSource
from multiway_recsys.simulator import PortalConfig, generated_texts, simulate


@dataclass(frozen=True)
class Recipe:
    """A recommender and how it is trained. Raises ValueError on values that cannot work.

    Attributes:
        model: the network; what depends on the log (categories, readers, entities) is filled in.
        epochs: passes over the clicked candidates, at most. evaluations: held-out scores, evenly spread over them.
        patience: so many scores without a better one end the run.
        warmup: share of the steps in which the rate rises; then it falls linearly to a tenth.
        chains: how chains are chosen; as the network's numbers say by default.
        text: where the network takes given vectors: TF-IDF-SVD fitted on the log's news, or the frozen MiniLM encoder.
        skip_bad_rows: whether bad rows of the log are left out.
        portal, articles: the portal that is simulated where no data are given, and how many articles it has.
        log: what to train on, in place of ``options.data`` and of a portal.
        latest: a later log over the same or more news (its ``news`` extend those of the log), whose histories the
            folder's graph, chains and readers are made of; the network does not see it.
        about: what the folder says of itself (source, simulated, max_age_days).
    """

    model: GlocimConfig = PRESETS["glocim-small"]
    epochs: float = 3.0
    batch_size: int = 512
    learning_rate: float = 1e-3
    warmup: float = 0.05
    evaluations: int = 9
    patience: int = 3
    precision: Literal["fp32", "bf16"] = "fp32"
    chains: ChainConfig | None = None
    text: Literal["tfidf", "minilm"] = "tfidf"
    skip_bad_rows: bool = False
    portal: PortalConfig | None = None
    articles: int = 9000
    log: MindData | None = None
    latest: MindData | None = None
    about: About | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "evaluations", "patience"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup must be at least 0 and below 1, not {self.warmup}")

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run on the train split of the MIND folder ``options.data``, or on the recipe's portal or log.

        The graph is made anew for each period of the log (see `periods`). The last third of the periods, or the latest
        tenth of a log that is one period, is held out to choose the weights; dev and test splits are not looked at.
        ``options.init_from`` is a model folder to fine-tune: its network, its texts' features and its categories.

        Raises InputError (too little data, a folder that does not fit), ModelNotFoundError, CheckpointError, DataError.
        """
        first = None
        if options.init_from is not None:
            first = model_folder.load(hub.resolve(options.init_from))
            if first.model.config.user.startswith("lstur"):
                raise InputError(
                    "a model of readers by number (lstur) cannot be fine-tuned for other readers; train anew"
                )
        data, latest, about = self._data(options)
        config = self.model if first is None else first.model.config
        # A term that the earlier network lacks is added; it starts at zero and leaves the scores as they were.
        config = replace(config, popularity=config.popularity or self.model.popularity)
        news = data.news if first is None else renumbered(data.news, first.news)
        source = (first and first.text) or text_source(news, config, self.text, options.seed)
        features = with_texts(news, source, config)
        readers = tuple(sorted(data.behaviors.user_ids))
        if config.user.startswith("lstur") and set(latest.behaviors.user_ids) != set(readers):
            raise InputError(
                "a model of readers by number (lstur) needs the same table of readers in the later log"
            )
        if first is None:
            config = config.fitted(features, num_users=len(readers) + 1)
            if config.entities:
                config = replace(config, num_entities=len(news.entity_ids))

        def period(part: LogPeriod) -> Period:
            structure = click_structure(
                part.past, features, news, config, chains=self.chains, until=part.until
            )
            known = with_clicks(features, structure, news, config, statistics_of=data.behaviors)
            return Period(known, _by_number(part.behaviors, readers))

        taught, judging = (list(map(period, part)) for part in held_out(log_periods(data.behaviors)))
        torch.manual_seed(options.seed)
        model = Glocim(config)
        if first is not None:
            known = first.model.state_dict()
            model.load_state_dict(model.state_dict() | known)
        elif model.entity_table is not None and data.entity_vectors is not None:
            _fill_entities(model, data.entity_vectors)
        return self.job(
            model,
            taught,
            judging,
            options,
            lambda trained, folder: export(trained, latest, source, folder, news, about),
        )

    def job(
        self,
        model: Glocim,
        taught: Sequence[Period],
        judging: Sequence[Period],
        options: TrainOptions,
        export: Callable[[Any, Path], None],
    ) -> TrainJob:
        """Training of a network on periods, each with the features of its time; the best AUC on ``judging`` stays."""
        batches = PeriodBatches(taught, model.config, seed=options.seed, batch_size=self.batch_size)
        steps = options.steps or batches.steps(self.epochs)
        every = max(1, round(steps / self.evaluations))

        def score(module: nn.Module) -> dict[str, float]:
            assert isinstance(module, Glocim)
            values = np.concatenate(
                [
                    evaluate_ranking(
                        score_behaviors(module, part.features, part.behaviors), part.behaviors
                    ).auc
                    for part in judging
                ]
            )
            if not np.isfinite(values).any():
                raise InputError(
                    "no held-out impression has a clicked and a not clicked candidate: nothing to judge by"
                )
            return {"AUC": float(values[np.isfinite(values)].mean())}

        config = TrainConfig(
            steps=steps,
            learning_rate=self.learning_rate,
            warmup_steps=round(self.warmup * steps),
            schedule="linear",
            final_learning_rate_ratio=0.1,
            betas=(0.9, 0.999),
            weight_decay=0.0,
            precision=self.precision,
            keep_checkpoints=1,
            log_every=every,
        )
        return TrainJob(
            model,
            negative_sampling,
            batches,
            options.apply(config),
            export,
            HeldOut(score, every, best="AUC", larger_is_better=True, patience=self.patience),
            facts={"train_clicks": len(batches)},
        )

    def _data(self, options: TrainOptions) -> tuple[MindData, MindData, About]:
        """What is trained on, what the folder's graph and readers are made of, and what the folder says of itself."""
        if self.log is not None:
            return self.log, self.latest or self.log, self.about or About()
        if not options.data and self.portal is not None:
            portal = simulate(
                replace(self.portal, seed=options.seed), generated_texts(self.articles, seed=options.seed)
            )
            about = self.about or About(simulated=True, source="a simulated portal")
            return MindData(portal.news, portal.splits["train"]), MindData(*portal.last_season()), about
        if len(options.data) != 1:
            raise InputError(
                f"a recommender is trained on one MIND folder, and {len(options.data)} were given; see --data"
            )
        folder = Path(options.data[0])
        simulated = is_simulated(folder)
        found = read_folder(folder, "train", skip_bad_rows=self.skip_bad_rows)
        for bad in found.bad_rows:
            print(bad.table(), end="\n" if bad.table() else "", file=sys.stderr)
        return found, found, self.about or About(source=folder.name, simulated=simulated)


def _recipe(name: str, model: GlocimConfig) -> Recipe:
    released = name.removesuffix("-small")
    recipe = Recipe(
        model, chains={"glocim-released": RELEASED_CHAINS, "glocim-intended": INTENDED}.get(released)
    )
    if name.endswith("-small"):
        return recipe
    return replace(
        recipe,
        epochs=5,
        batch_size=64,
        learning_rate=2e-4,
        warmup=0.1,
        evaluations=20,
        patience=6,
        precision="bf16",
    )


RECIPES: dict[str, Recipe] = {
    **{name: _recipe(name, model) for name, model in PRESETS.items()},
    # The bundled model: a quarter of an hour of one core.
    "news-portal": Recipe(
        replace(PRESETS["glocim-small"], rotation=0.5, popularity=True),
        epochs=4.0,
        portal=PortalConfig(num_users=3000, communities=10, train_seasons=7),
        articles=16_000,
        about=About(
            simulated=True,
            source="a news portal simulated by multiway_recsys.simulator; its texts are written by a program",
            max_age_days=3.0,
        ),
    ),
    # Half a minute on one core: shows that every part works.
    "smoke": Recipe(
        replace(PRESETS["glocim-small"], num_heads=2, head_dim=8, attention_hidden_size=16, category_dim=4),
        epochs=1,
        batch_size=128,
        learning_rate=5e-3,
        evaluations=3,
        portal=PortalConfig(num_users=200, communities=5),
        articles=1200,
    ),
}


def export(
    model: Glocim, data: MindData, source: TextSource, folder: Path, known: News, about: About
) -> None:
    """Write what `NewsRecommender` loads: the network, and news, graph, chains and readers of ``data``."""
    news = renumbered(data.news, known)
    features = with_texts(news, source, model.config)
    last = log_periods(data.behaviors)[-1] if len(data.behaviors) else None
    frozen = last is not None and len(last.past) == len(data.behaviors)
    structure = click_structure(
        data.behaviors,
        features,
        news,
        model.config,
        until=last.until if last is not None and frozen else None,
    )
    features = with_clicks(features, structure, news, model.config, statistics_of=data.behaviors)
    times = data.behaviors.times
    about = replace(about, until=int(times.max()) + 1 if len(times) else None, num_words=features.num_words)
    readers = Readers.of_behaviors(data.behaviors)
    model_folder.save(
        TrainedRecommender(about, model, news, features, structure.graph, readers, source), folder
    )


def _by_number(behaviors: Behaviors, readers: tuple[str, ...]) -> Behaviors:
    """Readers numbered from 1 in the order of their ids, as the network's table has them; 0 is an unknown reader."""
    number_of = {name: number for number, name in enumerate(readers, 1)}
    numbers = np.array([number_of.get(name, 0) for name in behaviors.user_ids], np.int32)
    return replace(behaviors, users=numbers[behaviors.users])


def _fill_entities(model: Glocim, vectors: NDArray[np.float32]) -> None:
    table = model.entity_table
    assert table is not None
    if vectors.shape != tuple(table.weight.shape):
        raise InputError(
            f"entity vectors of shape {vectors.shape}, the network's table has {tuple(table.weight.shape)}; "
            "set entity_dim, or leave entity_embedding.vec away"
        )
    with torch.no_grad():
        table.weight.copy_(torch.from_numpy(vectors))
