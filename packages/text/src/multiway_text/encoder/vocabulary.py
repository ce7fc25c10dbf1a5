"""A smaller vocabulary for fewer languages: a sentence model with only those Unigram pieces that they use.

Pieces keep their scores, so a text that the whole vocabulary cuts into kept pieces is cut into the same ones, and its
vector is the same. Other words fall into smaller pieces, in the worst case characters (Abdaoui et al. 2020,
arXiv 2010.05609, cut multilingual BERT in this way).

Shape suffixes: V pieces.
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain, islice

import torch
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.tokenization.engines import LibraryEngine
from tokenizers import Tokenizer
from torch import Tensor

from multiway_text.encoder.sentence import SentenceModel

_AT_ONCE = 1024  # texts
RARE_SCRIPT = 1.5e-4
"""The share of a language's pieces under which it has a script in citations only: Greek letters, names in Arabic."""


def shares(tokenizer: TextTokenizer, texts: Iterable[tuple[str, float]]) -> Tensor:
    """The share of each piece in texts, which come with weights: float64 (V,), of sum 1. InputError: no text."""
    counts_V = torch.zeros(tokenizer.vocab_size, dtype=torch.float64)
    stream = iter(texts)
    while some := list(islice(stream, _AT_ONCE)):
        rows = tokenizer.encode_batch([text for text, _ in some])
        ids = torch.tensor([index for row in rows for index in row], dtype=torch.long)
        weights = [weight for row, (_, weight) in zip(rows, some, strict=True) for _ in row]
        counts_V.index_add_(0, ids, torch.tensor(weights, dtype=torch.float64))
    if not counts_V.sum() > 0:
        raise InputError("there is no text to count pieces in")
    return counts_V / counts_V.sum()


def most_used(tokenizer: TextTokenizer, languages: Mapping[str, Tensor], size: int) -> list[int]:
    """``size`` ids in order: special tokens, every character that occurs, then by the sum of the languages' shares.

    ``languages``: of each what :func:`shares` gives. Pieces of a script that is in none of them more than a citation
    (`RARE_SCRIPT`) are left out: the model shall not spell what it cannot read. Raises InputError for a size that
    does not hold the characters.
    """
    shares_LV = torch.stack(list(languages.values()))
    pieces = [tokenizer.engine.id_to_token(index) or "" for index in range(tokenizer.vocab_size)]
    scripts: dict[str, list[int]] = defaultdict(list)
    for index in shares_LV.sum(0).nonzero()[:, 0].tolist():
        scripts[_script(pieces[index])].append(index)
    rare = [own for own in scripts.values() if float(shares_LV[:, own].sum(1).max()) < RARE_SCRIPT]
    total_V = shares_LV.sum(0).index_fill(0, torch.tensor(list(chain(*rare)), dtype=torch.long), 0.0)
    used = total_V.nonzero()[:, 0].tolist()
    characters = {index for index in used if len(pieces[index]) <= 1}
    kept = set(tokenizer.special.values()) | characters
    if len(kept) > size:
        raise InputError(
            f"a vocabulary of {size:,} does not hold the {len(kept):,} special tokens and characters that occur; "
            "take more, or texts of fewer languages"
        )
    by_share = iter(total_V.argsort(descending=True, stable=True).tolist())
    while len(kept) < min(size, len(used) + len(tokenizer.special)):
        kept.add(next(by_share))
    return sorted(kept)


def _script(piece: str) -> str:
    """Of the first letter, by its name: LATIN, CJK, ARABIC ...; pieces without letters share one."""
    letter = next((one for one in piece if one.isalpha()), None)
    return "" if letter is None else unicodedata.name(letter, "?").split()[0]


def cut(model: SentenceModel, kept: list[int], languages: Iterable[str] = ()) -> SentenceModel:
    """The model with these ids alone, numbered anew in their order; the weights of its layers are shared.

    ``languages``: their codes, for the model's settings.
    Raises InputError: the vocabulary is not a Unigram one of a ``tokenizer.json``, or a special token is left out.
    """
    engine = model.tokenizer.engine
    whole = set(kept)
    if not isinstance(engine, LibraryEngine) or engine.kind != "Unigram" or engine.first_id:
        raise InputError(
            f"only a Unigram vocabulary in a tokenizer.json can be cut; this one is {engine.kind}"
        )
    lost = [name for name, index in engine.special.items() if index not in whole]
    if lost:
        raise InputError(f"the special token {lost[0]} cannot be left out")
    number = {old: new for new, old in enumerate(kept)}
    content = json.loads(engine.tokenizer.to_str())
    content["model"]["vocab"] = [content["model"]["vocab"][old] for old in kept]
    content["model"]["unk_id"] = number[content["model"]["unk_id"]]
    for token in content["added_tokens"]:
        token["id"] = number[token["id"]]
    for token in (content["post_processor"] or {}).get("special_tokens", {}).values():
        token["ids"] = [number[old] for old in token["ids"]]
    before = model.tokenizer
    tokenizer = TextTokenizer(
        Tokenizer.from_str(json.dumps(content)),
        begin_id=None if before.begin_id is None else number[before.begin_id],
        end_ids=tuple(number[old] for old in before.end_ids),
        begin_token=before.begin_token,
        end_token=before.end_token,
    )
    encoder = model.encoder
    config = replace(encoder.config, vocab_size=len(kept), pad_id=number.get(encoder.config.pad_id, 0))
    with torch.device("meta"):
        smaller = type(encoder)(config)
    state = encoder.state_dict()
    state["token_embedding.weight"] = state["token_embedding.weight"][torch.tensor(kept)]
    smaller.load_state_dict(state, assign=True)
    settings = replace(model.settings, languages=tuple(sorted(languages)))
    return SentenceModel(smaller.eval(), tokenizer, settings)
