"""How answers are sampled, as the command line says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from multiway_text.sampling import RecommendedSampling, SamplingOptions

CHAT_TEMPERATURE = 0.7


@dataclass(frozen=True)
class Sampling:
    """What the command line says about sampling; None is "not said"."""

    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", "-n", help="Longest answer. \\[default: 512, or what the context leaves]"
        ),
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", "-t", help="0 takes the likeliest token. \\[default: the model's]"),
    ] = None
    top_k: Annotated[
        int | None, typer.Option("--top-k", help="Sample from the K likeliest tokens; 0 is all.")
    ] = None
    top_p: Annotated[
        float | None, typer.Option("--top-p", help="Sample from the likeliest tokens that reach P together.")
    ] = None
    repetition_penalty: Annotated[
        float | None,
        typer.Option("--repetition-penalty", help="Above 1: words that were there are less likely."),
    ] = None
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="End before this text; may be given several times.")
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of sampling. \\[default: a new one each time]")
    ] = None

    def options(
        self, defaults: RecommendedSampling, *, temperature: float = 0.0, **more: Any
    ) -> SamplingOptions:
        """Options: what was said, else what the checkpoint's authors recommend, else plain."""
        from multiway_text.sampling import SamplingOptions

        def first(name: str, otherwise: Any) -> Any:
            said, recommended = getattr(self, name), getattr(defaults, name)
            return said if said is not None else recommended if recommended is not None else otherwise

        return SamplingOptions(
            max_tokens=self.max_tokens,
            temperature=first("temperature", temperature),
            top_k=first("top_k", 0),
            top_p=first("top_p", 1.0),
            repetition_penalty=first("repetition_penalty", 1.0),
            stop=tuple(self.stop or ()),
            seed=self.seed,
            **more,
        )
