"""MinHash and duplicates: exact arithmetic, datasketch on equal hashes, the collision curve, no order."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_text.redstone.duplicates import (
    band_edges,
    line_form,
    line_hashes,
    repeated_lines,
    representatives,
)
from multiway_text.redstone.minhash import PRIME, MinHash, multiply_add, shingle_form, shingle_hash

P = int(PRIME)
below_prime = st.integers(0, P - 1) | st.sampled_from([0, 1, P - 1, 2**32 - 1, 2**32, 2**60, 2**61 - 2])


@settings(max_examples=300, deadline=None)
@given(below_prime, st.integers(0, P), below_prime)
def test_multiply_add_is_exact(a, h, b):
    found = multiply_add(*(np.array([value], np.uint64) for value in (a, h, b)))
    assert int(found[0]) == (a * h + b) % P


def test_signature_against_python_integers():
    family = MinHash(bands=3, rows=2, ngram=5, min_characters=10)
    text = "The quick brown fox, jumping over the lazy dog! It sleeps."
    normal = shingle_form(text)
    assert normal == "the quick brown fox jumping over the lazy dog it sleeps"
    hashes = {shingle_hash(normal[i : i + 5]) for i in range(len(normal) - 4)}
    a, b = ([int(value) for value in values[:, 0]] for values in family._family)
    expected = [min((x * h + y) % P for h in hashes) for x, y in zip(a, b, strict=True)]
    assert family.signature(text).tolist() == expected
    assert family.signature("short") is None


def test_many_shingles_are_hashed_in_pieces():
    hashes = np.random.default_rng(0).integers(0, P, 5000, dtype=np.uint64)
    family = MinHash(bands=2, rows=2)
    halves = [family.of_hashes(part) for part in np.array_split(hashes, 3)]
    assert np.array_equal(family.of_hashes(hashes), np.minimum.reduce(halves))


def test_collision_curve():
    """Pairs of Jaccard similarity s share a band with probability 1 - (1 - s^15)^17."""
    family, rng, size, trials = MinHash(), np.random.default_rng(1), 60, 150
    for similarity in (0.65, 0.8, 0.9):
        common = round(2 * size * similarity / (1 + similarity))
        hits = 0
        for _ in range(trials):
            values = rng.integers(0, P, 2 * size - common, dtype=np.uint64)
            one, two = values[:size], np.concatenate((values[size:], values[:common]))
            keys = [family.band_keys(family.of_hashes(part)) for part in (one, two)]
            hits += bool((keys[0] == keys[1]).any())
        exact = common / (2 * size - common)
        expected = 1 - (1 - exact**15) ** 17
        assert abs(hits / trials - expected) < 4 * (expected * (1 - expected) / trials) ** 0.5 + 1e-9


def test_seventeen_bands_of_fifteen_are_the_best_for_256_hashes():
    s = np.linspace(0, 1, 20_001)

    def error(bands, rows):
        chance = 1 - (1 - s**rows) ** bands
        return np.trapezoid(chance[s <= 0.8], s[s <= 0.8]) + np.trapezoid(1 - chance[s >= 0.8], s[s >= 0.8])

    splits = [(bands, rows) for bands in range(1, 65) for rows in range(1, 256 // bands + 1) if 8 < rows < 25]
    assert min(splits, key=lambda split: error(*split)) == (MinHash().bands, MinHash().rows)


@pytest.mark.peer
def test_bands_find_the_pairs_of_datasketch():
    datasketch = pytest.importorskip("datasketch")
    family, rng = MinHash(bands=8, rows=3), np.random.default_rng(2)
    pool = rng.integers(0, P, (6, 40), dtype=np.uint64)
    sets = [np.unique(rng.choice(pool[i % 6], 30, replace=False)) for i in range(36)]
    signatures = [family.of_hashes(hashes) for hashes in sets]
    lsh = datasketch.MinHashLSH(num_perm=24, params=(8, 3))
    theirs = {
        frozenset((i, j))
        for i, signature in enumerate(signatures)
        for j in _query(datasketch, lsh, i, signature)
    }
    keys = np.stack([family.band_keys(signature) for signature in signatures])
    ours = {frozenset((i, j)) for i in range(36) for j in range(i) if (keys[i] == keys[j]).any()}
    assert ours == theirs
    assert 20 < len(ours) < 36 * 35 / 2


def _query(datasketch, lsh, name, signature):
    minhash = datasketch.MinHash(num_perm=len(signature), hashvalues=signature, scheme="legacy")
    found = lsh.query(minhash)
    lsh.insert(name, minhash)
    return found


def duplicates(ids, keys_NB):
    return representatives(ids, [band_edges(ids, keys) for keys in keys_NB.T])


def slow_duplicates(ids, keys):
    groups = [{i} for i in range(len(ids))]
    for i in range(len(ids)):
        for j in range(i):
            if (keys[i] == keys[j]).any() and groups[i] is not groups[j]:
                groups[i] |= groups[j]
                for k in groups[j]:
                    groups[k] = groups[i]
    return [min(group, key=lambda k: ids[k]) for group in groups]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 60), st.integers(0, 2**32))
def test_components_against_slow_ones_in_any_order(count, bands, values, seed):
    rng = np.random.default_rng(seed)
    ids = np.array([f"id{value:03}" for value in rng.permutation(count)])
    keys = rng.integers(0, values, (count, bands), dtype=np.uint64)
    found = duplicates(ids, keys)
    assert found.tolist() == slow_duplicates(ids, keys)
    order = rng.permutation(count)
    again = duplicates(ids[order], keys[order])
    assert [order[i] for i in again] == [found[i] for i in order]


def test_a_long_chain_is_one_component():
    count = 5000
    keys = np.stack((np.arange(count) // 2, (np.arange(count) + 1) // 2 + count), axis=1).astype(np.uint64)
    ids = np.random.default_rng(0).permutation(count)
    assert set(ids[duplicates(ids, keys)]) == {0}
    assert duplicates(np.array([], "U1"), np.zeros((0, 17), np.uint64)).tolist() == []


def test_lines_in_normal_form():
    assert line_form("  Page 12, of ３４!\u200b ") == "page 00 of 00"
    one, two, marks, other, rule, empty = line_hashes("Page 1\npage 2!\n...\nsomething else\n----\n ")
    assert one == two != other
    assert marks == rule != 0  # as in RedStone: what has no normal form has the same one
    assert empty == 0


def test_repeated_lines_keep_the_first_of_the_smallest_owner():
    documents = {2: "a\nb\nc", 0: "b\nx\nb", 1: "!\nc\n"}
    hashes = [line_hashes(text) for text in documents.values()]
    owners = np.repeat(list(documents), [len(part) for part in hashes])
    repeats = repeated_lines(np.concatenate(hashes), owners)
    assert repeats.tolist() == [False, True, True] + [False, False, True] + [False] * 3
    order = [3, 4, 5, 6, 7, 8, 0, 1, 2]
    assert repeated_lines(np.concatenate(hashes)[order], owners[order]).tolist() == repeats[order].tolist()


def test_near_duplicates_of_texts():
    rng = random.Random(0)
    words = [f"{rng.randrange(36**5):x}" for _ in range(400)]
    near = words[:200] + ["changed"] + words[201:]
    other = [f"{rng.randrange(36**5):x}" for _ in range(400)]
    family = MinHash()
    keys = np.stack([family.band_keys(family.signature(" ".join(part))) for part in (other, near, words)])
    assert duplicates(np.array(["c", "b", "a"]), keys).tolist() == [0, 2, 2]
