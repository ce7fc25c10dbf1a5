"""Decoding behind the cache against a slow reference that runs the whole sequence again at every step."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core.errors import ConfigError, InputError
from multiway_core.generation import NoRepeatNGram
from multiway_core.tokenization import TextTokenizer
from multiway_text.encoder.heads import MaskedLM
from multiway_text.s2s_ft.config import Seq2SeqConfig
from multiway_text.seq2seq.decode import Decoding, Writer
from multiway_text.seq2seq.rules import LengthPenalty
from tokenizers import Tokenizer, models, processors


def word_piece(pieces: list[str]) -> TextTokenizer:
    library = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    library.add_special_tokens(pieces[:5])
    library.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return TextTokenizer(library)


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."] + [chr(97 + i) for i in range(18)]
SEP, MASK, CLS, DOT = 3, 4, 2, 5
TOKENIZER = word_piece(PIECES)
SOURCES = [[7, 9, 8], [11, 12, 6, 6, 13, 9, 14, 7], [20, 21], [8, 8, 8, 8, 10]]


def writer(method: str, *, buckets: int = 0, first_position: int = 0, seed: int = 0) -> Writer:
    family = "unilm2" if buckets else "xlm-roberta" if first_position else "bert"
    config = TextEncoderConfig(
        family, len(PIECES), 24, 2, 3, 40, 40 + first_position, 0 if first_position else 2, 1e-5, 0,
        first_position, num_buckets=buckets, max_distance=16, key_bias=not buckets, pooler=False,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = MaskedLM(TextEncoder(config))
    for parameter in model.parameters():
        parameter.data += 0.25 * torch.randn_like(parameter)
    model.head.bias.data[SEP] += 1.6  # so that hypotheses end at various lengths
    return Writer(model.eval(), Seq2SeqConfig(method, 12, 14, 0, 1), TOKENIZER)


def slow_log_probs(own: Writer, source: list[int], written: list[int]) -> torch.Tensor:
    """The next token's, from one pass over the whole sequence with a mask that a loop has drawn."""
    causal = own.config.method == "causal"
    context = [CLS, *source] if causal else [CLS, *source, SEP]
    tokens = [*context, SEP, *written] if causal else [*context, *written, MASK]
    count, total = len(context), len(tokens)
    mask = torch.zeros(total, total, dtype=torch.bool)
    for query in range(total):
        for key in range(total):
            mask[query, key] = key < count if query < count else key <= query
    first = own.model.encoder.config.first_position
    types = torch.tensor([[0] * count + [1] * (total - count)])
    logits = own.model(
        torch.tensor([tokens]),
        torch.ones(1, total, dtype=torch.bool),
        mask=mask[None, None],
        positions_BT=torch.arange(total)[None] + first,
        types_BT=types if own.model.encoder.type_embedding is not None else None,
    )
    return logits[0, -1].log_softmax(-1).double()


@torch.no_grad()
def slow_beam(own: Writer, source: list[int], d: Decoding) -> tuple[list[int], float]:
    """s2s-ft's search word for word: penalties of -10000, no early stop, candidates of all frames at the end."""
    limit = d.max_length or own.config.max_target
    ignored = {PIECES.index(piece) for piece in d.ignore}
    frames: list[list[tuple[list[int], float, bool]]] = [[([], 0.0, False)]]
    for _ in range(limit):
        picks = []
        for place, (written, total, ended) in enumerate(frames[-1]):
            scores = (
                slow_log_probs(own, source, written) if not ended else torch.full((len(PIECES),), -10000.0)
            )
            if len(written) + 1 <= d.min_length:
                scores[SEP] -= 10000
            n = d.no_repeat_ngram
            if n and len(written) >= n:
                tail = written[len(written) - n + 1 :]
                for token in range(len(PIECES)):
                    gram = [*tail, token]
                    seen = [written[i : i + n] for i in range(len(written) - n + 1)]
                    if gram in seen and not ignored & set(gram):
                        scores[token] -= 10000
            best = scores.topk(d.num_beams)
            picks += [
                (total + s, place, rank, t)
                for rank, (s, t) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True))
            ]
        picks = sorted(picks, key=lambda pick: -pick[0])[: d.num_beams]
        before = frames[-1]
        frames.append(
            [
                ([*before[p][0], t] if not before[p][2] else before[p][0], s, t == SEP or before[p][2])
                for s, p, _, t in picks
            ]
        )
        if all(ended for *_, ended in frames[-1]):
            break
    best_value, best_text = float("-inf"), []
    for number, frame in enumerate(frames[1:], 1):
        for written, total, ended in frame:
            if (ended and written[-1] == SEP and len(written) == number) or number == len(frames) - 1:
                value = d.penalty.value(total, number)
                if value > best_value:
                    best_value, best_text = value, written
    return [t for t in best_text if t != SEP], best_value


DECODINGS = {
    "greedy": Decoding(num_beams=1, no_repeat_ngram=0),
    "beam": Decoding(num_beams=5, no_repeat_ngram=0),
    "power": Decoding(num_beams=5, penalty=LengthPenalty("power", 0.9), min_length=4),
    "linear": Decoding(num_beams=4, penalty=LengthPenalty("linear", 0.7), no_repeat_ngram=2),
    "expected": Decoding(
        num_beams=3, penalty=LengthPenalty("expected", 0.5, 6), min_length=2, no_repeat_ngram=2
    ),
}


@pytest.mark.parametrize("name", DECODINGS)
@pytest.mark.parametrize("method", ["causal", "masked", "pseudo_masked"])
def test_cached_decoding_equals_the_slow_reference(method, name) -> None:
    own, decoding = writer(method), DECODINGS[name]
    found = own.write(SOURCES, decoding)
    lengths = set()
    for source, tokens, score in zip(SOURCES, found.tokens, found.beam_scores, strict=True):
        expected, value = slow_beam(own, source, decoding)
        assert tokens.tolist() == expected
        assert score == pytest.approx(value, abs=1e-4)
        lengths.add(len(expected))
    assert len(lengths) > 1 or name == "greedy"


@pytest.mark.parametrize("kind", [{"buckets": 8}, {"first_position": 2}])
def test_other_families(kind) -> None:
    own = writer("pseudo_masked", **kind, seed=3)
    found = own.write(SOURCES, DECODINGS["power"])
    for source, tokens in zip(SOURCES, found.tokens, strict=True):
        assert tokens.tolist() == slow_beam(own, source, DECODINGS["power"])[0]


@pytest.mark.parametrize("seed", range(6))
def test_early_stop_and_batches_do_not_change_the_result(seed) -> None:
    own = writer("masked", seed=seed)
    generator = torch.Generator().manual_seed(seed)
    sources = [
        torch.randint(6, 24, (int(n),), generator=generator).tolist() for n in torch.randint(1, 11, (9,))
    ]
    for decoding in DECODINGS.values():
        whole = own.write(sources, dataclasses.replace(decoding, batch_size=4))
        patient = own.write(sources, dataclasses.replace(decoding, early_stop=False, batch_size=9))
        alone = [own.write([source], decoding) for source in sources]
        for i in range(len(sources)):
            assert whole.tokens[i].tolist() == patient.tokens[i].tolist() == alone[i].tokens[0].tolist()
            assert whole.beam_scores[i] == pytest.approx(patient.beam_scores[i], abs=1e-4)
            assert whole.beam_scores[i] == pytest.approx(alone[i].beam_scores[0], abs=1e-4)


def test_bounds_hold_for_every_continuation() -> None:
    for penalty in (
        LengthPenalty(),
        LengthPenalty("power", 1.3),
        LengthPenalty("linear", 2.0),
        LengthPenalty("expected", 0.4, 5),
    ):
        for length in range(1, 9):
            for later in range(length + 1, 11):
                assert penalty.bound(-2.0, length, 10) >= penalty.value(-2.5, later)
    with pytest.raises(ConfigError, match="at least 0"):
        LengthPenalty("power", -1.0)


def test_ngrams_with_an_ignored_token_may_come_twice() -> None:
    tokens = torch.tensor([[1, 2, 3, 1, 2]])
    assert NoRepeatNGram(3)(tokens, torch.zeros(1, 6))[0, 3] == float("-inf")
    for ignored in ([2], [3]):
        assert (NoRepeatNGram(3, ignored)(tokens, torch.zeros(1, 6)) == 0).all()


def test_sources_are_refused_and_never_cut() -> None:
    own = writer("masked")
    assert own.max_source == 10
    with pytest.raises(InputError, match="source 1 has 11 tokens; expected 1 to 10"):
        own.write([[6], [6] * 11], Decoding())
    with pytest.raises(InputError, match="source 0 has 0 tokens"):
        own.write([[]], Decoding())
    with pytest.raises(InputError, match="positions for 1 to 28 tokens"):
        own.write([[6]], Decoding(max_length=29))


@pytest.mark.parametrize("method", ["causal", "masked", "pseudo_masked"])
def test_scores_of_a_target_are_those_of_decoding(method) -> None:
    own, target = writer(method), [9, 14, 9, 20]
    found = own.log_probs(SOURCES[:2], target)
    for source, value in zip(SOURCES, found, strict=False):
        with torch.no_grad():
            steps = [slow_log_probs(own, source, target[:i])[t] for i, t in enumerate([*target, SEP])]
        assert value == pytest.approx(float(sum(steps)) / 5, abs=1e-4)
