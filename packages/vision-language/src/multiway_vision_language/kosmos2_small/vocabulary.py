"""The small network's SentencePiece vocabulary, trained on captions and generated phrases."""

from __future__ import annotations

import io
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from multiway_core import files
from multiway_core.errors import InputError
from sentencepiece import SentencePieceTrainer

from multiway_vision_language.kosmos2.config import TokenConfig
from multiway_vision_language.scenes.colors import COLORS
from multiway_vision_language.scenes.english import SYNONYMS, plural

_CONTROL_PIECES = 3
_NO_THINGS = (
    "large", "small", "big", "little", "left", "right", "top", "bottom", "people", "group", "couple", "lot", "number",
    "bunch", "image", "picture", "photo", "view", "close", "grey", "child", "kid", "lady", "guy", "animal", "food",
    "fruit", "vehicle", "toy",
)  # fmt: skip
_PHRASES = (
    "the {0}", "the {0} left of the {1}", "the largest {0}", "the {0} on the left", "question: how many {0} are there?",
    "what color is the {0}?", "is there a {0}?", "the red {0} above the blue {1}", "the {0} closest to the {1}",
)  # fmt: skip
_OPENINGS = (
    "an image of", "describe this image in detail: there is", "it is the", "at the top left", "at the bottom right",
    "in the center", "question: where is the", "question: what is to the left of the",
    "question: what is in the picture? answer:",
)  # fmt: skip


def unknown_nouns(captions: Path, names: Sequence[str]) -> list[str]:
    """Words that captions use of things (behind an article, three times or more) and that belong to no name.

    Asked for in a scene they are not there, or hardly ever; so a model learns to say that of words it does not know.
    Raises :class:`InputError`.
    """
    words = [
        word
        for name in (*names, *(word for own in SYNONYMS.values() for word in own))
        for word in name.split()
    ]
    known = {form for word in words for form in (word, plural(word))}
    known |= {*COLORS, *_NO_THINGS}
    behind_article = re.compile(r"\b(?:a|an|the|his|her|some) ([a-z]{3,})\b")
    count = Counter(word for line in _read(captions) for word in behind_article.findall(line))
    return sorted(word for word, times in count.items() if times >= 3 and word not in known)


def _read(captions: Path) -> list[str]:
    try:
        described = json.loads(captions.read_text(encoding="utf-8"))
        return [" ".join(text.split()).lower() for texts in described.values() for text in texts]
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{captions}: no captions ({error})") from error


def train_vocabulary(captions: Path, names: Sequence[str], tokens: TokenConfig, path: Path) -> None:
    """Write a SentencePiece file with as many pieces as ``tokens`` has ids. Words lose their case.

    ``captions``: JSON object of lists of captions. Raises :class:`InputError`.
    """
    lines = _read(captions)
    rng = random.Random(0)
    for name in names:
        for phrase in _PHRASES:
            lines += [phrase.format(rng.choice([name, plural(name)]), rng.choice(names)) for _ in range(6)]
    lines += 200 * list(_OPENINGS)
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=tokens.num_text_tokens + _CONTROL_PIECES,
            model_type="unigram",
            normalization_rule_name="nmt_nfkc_cf",
            character_coverage=1.0,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise InputError(
            f"{captions}: too few different words for {tokens.num_text_tokens} pieces"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, model.getvalue())
