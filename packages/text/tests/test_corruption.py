import numpy as np
import pytest
from multiway_core.errors import ConfigError, InputError
from multiway_text.data.corruption import BERT, UNILM, UNILM_V2, Masking, Vocabulary, choose_spans, corrupt
from multiway_text.data.vocabulary import SPECIAL, train_word_piece

WORDS = Vocabulary(2, 3, 4, np.arange(5, 50))


def spans(masking, seed=0, length=200, special=()):
    maskable = np.ones(length, bool)
    maskable[list(special)] = False
    return choose_spans(maskable, masking, np.random.default_rng(seed))


@pytest.mark.parametrize("masking", [BERT, UNILM, UNILM_V2])
@pytest.mark.parametrize("length", [1, 2, 9, 64, 200])
def test_exactly_the_share_is_hidden_once_and_never_a_special_token(masking, length):
    special = range(0, length - 1, 7)
    for seed in range(20):
        places = [place for span in spans(masking, seed, length, special) for place in span]
        assert len(places) == len(set(places)) == max(1, round(0.15 * (length - len(special))))
        assert not set(places) & set(special)


def test_nothing_to_hide():
    assert spans(BERT, length=3, special=range(3)) == []


def test_share_and_lengths_of_spans():
    drawn = [len(span) for seed in range(300) for span in spans(UNILM_V2, seed, 400)[:10]]
    assert np.mean([length > 1 for length in drawn]) == pytest.approx(0.4, abs=0.03)
    assert set(drawn) == {1, 2, 3, 4, 5, 6}
    drawn = [len(span) for seed in range(300) for span in spans(UNILM, seed, 400)[:10]]
    assert np.mean([length > 1 for length in drawn]) == pytest.approx(0.2, abs=0.03)
    assert set(drawn) == {1, 2, 3}
    assert {len(span) for span in spans(BERT)} == {1}


def test_spans_come_in_random_order_of_the_seed():
    order = [span.start for span in spans(UNILM_V2)]
    assert order != sorted(order)
    assert spans(UNILM_V2) == spans(UNILM_V2)
    assert spans(UNILM_V2) != spans(UNILM_V2, seed=1)


def test_eighty_ten_ten():
    ids = np.random.default_rng(0).integers(5, 50, 60_000)
    places = list(range(0, len(ids), 2))
    changed = corrupt(ids, places, WORDS, BERT, np.random.default_rng(1))
    assert (changed[1::2] == ids[1::2]).all()
    hidden, original = changed[places], ids[places]
    assert np.mean(hidden == 4) == pytest.approx(0.8, abs=0.01)
    assert np.mean((hidden != 4) & (hidden != original)) == pytest.approx(0.1 * 44 / 45, abs=0.01)
    assert hidden[hidden != 4].min() >= 5
    assert (corrupt(ids, places, WORDS, BERT, np.random.default_rng(1)) == changed).all()


@pytest.mark.parametrize(
    "wrong", [{"rate": 0.0}, {"masked": 0.95}, {"span_lengths": (3, 2)}, {"span_share": 2.0}]
)
def test_wrong_masking(wrong):
    with pytest.raises(ConfigError, match="masking"):
        Masking(**wrong)


def test_vocabulary_is_learnt(tmp_path):
    texts = ["the walrus and the carpenter", "were walking close at hand"] * 20
    tokenizer = train_word_piece(texts, 120)
    assert [tokenizer.special[name] for name in SPECIAL] == [0, 1, 2, 3, 4]
    assert tokenizer.decode(tokenizer.encode("The Carpenter")) == "the carpenter"
    assert tokenizer.encode("[MASK]") != [4]
    assert tokenizer.batch(["hand"]).ids_BT[0].tolist()[:: len(tokenizer.encode("hand")) + 1] == [2, 3]
    assert tokenizer.encode("\u2603") == [1]
    with pytest.raises(InputError, match="at least 100"):
        train_word_piece(texts, 50)
    with pytest.raises(InputError, match="no text"):
        train_word_piece([], 120)
