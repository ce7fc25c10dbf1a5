"""The ``recommend`` command: one reader's list, as text, JSON and pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError
from multiway_core.files import write_text

from multiway_news_recommendation.app import APP
from multiway_news_recommendation.mind_folder import of_log, over_folder
from multiway_news_recommendation.options import SIMULATED_NOTE, RecommendOptions, Split

if TYPE_CHECKING:
    from multiway_recsys.auto_recommender import Recommender
    from multiway_recsys.serving.result import RecommendationList, RecommendationListJson


@dataclass(frozen=True)
class Shown:
    """A list ready to be printed."""

    found: RecommendationList

    def to_json(self) -> RecommendationListJson:
        """Schema ``multiway.news-recommendation/1``."""
        return self.found.to_json()

    def to_text(self) -> str:
        """For people: a line a news, and under it why."""
        found = self.found
        reader = f"reader {found.user}" if found.user else "this reader"
        clicks = f"{len(found.history)} click{'' if len(found.history) == 1 else 's'}"
        lines = [f"For {reader} ({clicks}), by {found.model}:"]
        if found.simulated:
            lines[0] = lines[0][:-1] + f" ({SIMULATED_NOTE}):"
        if found.rule is not None:
            lines.append(f"({found.rule})")
        width = max((len(item.article.category) for item in found.recommendations), default=0)
        for rank, item in enumerate(found.recommendations, 1):
            article, title = item.article, item.article.title or "(no title)"
            lines.append(
                f"{rank:>3}  {item.score:6.2f}  {article.category:<{width}}  {title}  [{article.id}]"
            )
            if item.explanation is not None:
                parts = ", ".join(f"{name} {value:+.2f}" for name, value in item.parts.items())
                lines += [f"     {item.explanation.text}", f"     Made of: {parts}", ""]
        return "\n".join(lines).rstrip("\n") + "\n"


def recommend_to_one(
    user: str | None,
    history: str | None,
    options: RecommendOptions,
    *,
    data: Path | None,
    split: Split,
    skip_bad_rows: bool,
    model: ModelOptions,
) -> Shown:
    """Recommend to a known reader or to a history.

    Raises:
        InputError: neither or both of them, an unknown reader, rules that cannot be followed.
        DataError: ``data`` is bad.
    """
    from multiway_recsys.serving.folder import Readers
    from multiway_recsys.serving.reranking import RerankingOptions

    if (user is None) == (history is None):
        raise InputError("give one of --user ID and --history N1,N2,... (an empty history is a new reader)")
    if options.pictures is not None and options.pictures.exists() and not options.pictures.is_dir():
        raise InputError(f"--pictures {options.pictures}: is a file; give a folder")
    rules = RerankingOptions(
        diversity=options.diversity,
        per_category=options.per_category,
        max_age_days=options.max_age_days,
        exclude_seen=not options.include_seen,
        blocked=frozenset(parse_ids(options.block or "", "--block")),
    )
    at = None if options.at is None else parse_time(options.at)
    typed = None if history is None else parse_ids(history, "--history")
    if data is not None and model.model in ("", APP.model):  # the portal of that model is made up
        recommender: Recommender = of_log(data, split, skip_bad_rows=skip_bad_rows)
    else:
        recommender = load_pipeline(APP, model)
        if data is not None:
            recommender, found = over_folder(recommender, data, split, skip_bad_rows=skip_bad_rows)
            recommender = recommender.with_news(found.news, Readers.of_behaviors(found.behaviors))
            at = int(found.behaviors.times.max()) if at is None else at
    clicks = typed if user is None else recommender.history_of(user)
    assert clicks is not None
    wants_reasons = options.explain or options.pictures is not None
    result = recommender.recommend(
        clicks,
        user=user,
        top=options.top,
        rules=rules,
        at=at,
        chains=options.chains,
        detail="explanation" if wants_reasons else "parts",
        min_readers=options.min_readers,
    )
    _tell(result, clicks, options.top)
    if options.pictures is not None:
        write_pictures(result, options.pictures)
    return Shown(result)


def _tell(result: RecommendationList, clicks: list[str], top: int) -> None:
    if result.unknown:
        some = ", ".join(result.unknown[:5]) + (", ..." if len(result.unknown) > 5 else "")
        APP.note(
            f"{len(result.unknown)} of {len(clicks)} ids of the history are unknown and left out: {some}"
        )
    if not result.history:
        APP.note(f"no known history, so a rule ranked ({result.rule})")
    if len(result.recommendations) < top:
        APP.note(f"{len(result.recommendations)} news may be shown, {top} were asked for")


def write_pictures(result: RecommendationList, folder: Path) -> None:
    """One SVG a recommendation: ``01-N123.svg``. Raises OutputError."""
    from multiway_recsys.serving.explanation_svg import explanation_svg

    for rank, item in enumerate(result.recommendations, 1):
        if item.explanation is not None:
            name = re.sub(r"[^A-Za-z0-9._-]", "_", item.article.id)[:80]
            picture = explanation_svg(item.explanation, item.article, item.parts, item.score)
            write_text(folder / f"{rank:02}-{name}.svg", picture)


def parse_ids(text: str, option: str) -> list[str]:
    """Ids between commas or blanks. Raises InputError for one that cannot be an id."""
    ids = re.split(r"[,\s]+", text.strip().strip(","))
    ids = [id_ for id_ in ids if id_]
    for id_ in ids:
        if not id_.isprintable() or len(id_) > 200:
            raise InputError(f"{option}: {id_[:80]!r} is no id; expected ids between commas, such as N12,N7")
    return ids


def parse_time(text: str) -> int:
    """ISO date and time (UTC where no zone is given) as seconds since 1970. Raises InputError."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"--at {text!r}: expected a time such as 2019-11-15T08:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp())
