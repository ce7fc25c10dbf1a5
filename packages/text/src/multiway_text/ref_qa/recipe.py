"""A reader from harvested pairs: a first training, then turns of refinement. No question was written by a person.

training.run(RECIPES["ref-qa"], TrainOptions(output, data=("pairs.jsonl",)))
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from multiway_core import files
from multiway_core.errors import ConfigError, InputError
from multiway_core.training import TrainJob, TrainOptions

from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.recipe import RECIPES as ENCODER
from multiway_text.encoder.recipe import Recipe as EncoderRecipe
from multiway_text.ref_qa.pairs import Pair, read_pairs, write_pairs
from multiway_text.ref_qa.parser import load_parser
from multiway_text.ref_qa.questions import Writer
from multiway_text.ref_qa.refinement import CANDIDATES, Refinement, refine

HELD_OUT = 20
"""One context in so many is held out, for the score."""


@dataclass(frozen=True)
class Recipe:
    """How pairs become a reader.

    Attributes:
        turns: parts of the pairs that are refined, each by the reader that the one before gave.
        first: the share of the pairs that the first training takes; the paper's is a third.
        style: of the questions that refinement writes; see `HarvestSettings`.
        parser: language, or a pipeline of spaCy.
        keep: ``last``: the reader of the last turn; ``best``: a turn that does not raise F1 on ``held_out`` is undone,
            as in the paper, where those are questions that people wrote.
        held_out: SQuAD files to score on; without them one context of twenty.
        reader: the training of a stage; its ``epochs`` are those of the first, a turn has one.
    """

    turns: int = 3
    first: float = 1 / 3
    refinement: Refinement = field(default_factory=Refinement)
    style: Literal["reordered", "natural", "noisy", "identity"] = "reordered"
    parser: str = "en"
    keep: Literal["last", "best"] = "last"
    held_out: tuple[str, ...] = ()
    max_length: int = 384
    batch_size: int = 24
    epochs: float = 2.0
    reader: EncoderRecipe = ENCODER["extract"]

    @property
    def train(self) -> Any:
        """The trainer's numbers."""
        return self.reader.train

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """The jobs of a run on ``options.data``, JSONL that ``harvest`` wrote: first, turn-1, turn-2 …

        Raises InputError, DataError (file and line), ConfigError, ModelNotFoundError.
        """
        if self.turns < 0 or not 0 < self.first <= 1:
            raise ConfigError("turns are 0 or more, and the first training takes a share of the pairs")
        if self.keep == "best" and not self.held_out:
            raise InputError("--keep best chooses by questions that people wrote; name them by --held-out")
        nlp = load_parser(self.parser)
        pairs = read_pairs(options.data)
        contexts = list(dict.fromkeys(pair.question.context for pair in pairs))
        random.Random(options.seed).shuffle(contexts)
        held = set() if self.held_out else set(contexts[: max(1, len(contexts) // HELD_OUT)])
        given = [pair for pair in pairs if pair.question.context not in held]
        if len(given) < 2 * (1 + self.turns):
            raise InputError(f"{len(given)} pairs to train on are too few for {1 + self.turns} parts")
        scored = [pair for pair in pairs if pair.question.context in held]
        random.Random(options.seed).shuffle(given)
        count = len(given) if not self.turns else max(1, round(len(given) * self.first))
        rest = [given[count + turn :: self.turns] for turn in range(self.turns)]
        folder = options.output / "pairs"
        held_out = self.held_out or (str(_written(folder / "held-out.jsonl", scored)),)
        first = _written(folder / "first.jsonl", given[:count])
        job = self._job(options, "first", first, held_out, options.init_from, self.epochs)
        yield job
        for turn, part in enumerate(rest):
            model = _export(job, options.output / "models" / job.name)
            path = folder / f"turn-{turn + 1}.jsonl"
            if not path.is_file():
                reader = EncoderPipeline.from_pretrained(str(model), device=options.device)
                asked = [(pair.question.question, pair.question.context) for pair in part]
                found = refine(
                    part,
                    reader.read(asked, count=CANDIDATES),
                    nlp,
                    Writer(self.style, language=str(nlp.lang)),
                    self.refinement,
                    turn=turn,
                    random_=random.Random(options.seed + turn),
                )
                chosen = found.training_set(random.Random(options.seed + turn))
                _written(path, chosen or part)
            job = self._job(options, f"turn-{turn + 1}", path, held_out, str(model), 1.0)
            yield job

    def _job(
        self,
        options: TrainOptions,
        name: str,
        data: Path,
        held_out: Sequence[str],
        base: str | None,
        epochs: float,
    ) -> TrainJob:
        reader = replace(
            self.reader,
            held_out=tuple(held_out),
            epochs=epochs,
            max_length=self.max_length,
            batch_size=self.batch_size,
        )
        job = reader.build(replace(options, data=(str(data),), init_from=base))
        assert isinstance(job, TrainJob)
        assert job.held_out is not None
        best = job.held_out.best if self.keep == "best" else ""
        return replace(
            job, name=name, held_out=replace(job.held_out, best=best), facts={**job.facts, "stage": name}
        )


def _written(path: Path, pairs: Sequence[Pair]) -> Path:
    """The file of some pairs, written once a run."""
    if not path.is_file():
        write_pairs(path, pairs)
    return path


def _export(job: TrainJob, folder: Path) -> Path:
    """The model of a job that has ended."""
    if not (folder / "config.json").is_file():
        with files.replace_folder(folder) as temporary:
            job.export(job.model, temporary)
    return folder


RECIPES: dict[str, Recipe] = {"ref-qa": Recipe()}
