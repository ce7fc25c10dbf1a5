"""Synthetic lines: fonts, texts, degradations, crops and pools. Nothing here needs fonts or texts of the
machine.
"""

from __future__ import annotations

import itertools
import string

import cv2
import numpy as np
import pytest
from multiway_core.errors import OutputError
from multiway_document.alphabet import ALPHABET
from multiway_document.rendering import degrade as degradations
from multiway_document.rendering import pool as pools
from multiway_document.rendering.corpus import Corpus, is_held_out, strip_html, strip_roff
from multiway_document.rendering.fonts import FontLibrary, built_in_face, replace_uncovered
from multiway_document.rendering.glyphs import atlas, split_ligatures
from multiway_document.rendering.lines import LineSampler
from multiway_document.rendering.text import TextSource, put_accents, random_string


@pytest.fixture(scope="module")
def sampler() -> LineSampler:
    return LineSampler(FontLibrary([]), TextSource())


@pytest.fixture(scope="module")
def system_fonts() -> FontLibrary:
    fonts = FontLibrary.discover()
    if "built-in" in fonts.families:
        pytest.skip("this machine has no fonts")
    return fonts


def test_a_machine_without_fonts_has_the_built_in_one(tmp_path):
    fonts = FontLibrary.discover([tmp_path])
    assert list(fonts.families) == ["built-in"]
    assert fonts.draw(np.random.default_rng(0)).covered == frozenset(chr(code) for code in range(32, 127))
    assert list(fonts.split("train").families) == list(fonts.split("held_out").families) == ["built-in"]


def test_a_file_that_is_no_font_is_passed_over(tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"\0\1\0\0" + b"x" * 100)
    assert list(FontLibrary.discover([tmp_path]).families) == ["built-in"]


def test_families_are_split_whole_and_read_as_lower_case(system_fonts):
    train, held_out = system_fonts.split("train"), system_fonts.split("held_out")
    assert not set(train.families) & set(held_out.families)
    assert not any(
        name.startswith(("Open Sans", "Nimbus Sans", "C059", "Carlito")) for name in train.families
    )
    for face in system_fonts.faces:
        assert face.covered.issuperset(string.ascii_letters + string.digits)
        assert 0.25 < face.x_height < 0.75


def test_families_are_drawn_about_equally_and_script_seldom(system_fonts):
    fonts = system_fonts.split("train")
    rng = np.random.default_rng(0)
    drawn = [fonts.draw(rng) for _ in range(4000)]
    assert sum(face.genre == "script" for face in drawn) / 4000 <= 0.11
    ordinary = [name for name, faces in fonts.families.items() if faces[0].genre != "script"]
    counts = [sum(face.family == name for face in drawn) for name in ordinary]
    assert max(counts) < 4 * (4000 / len(ordinary)) + 10


def test_missing_characters_become_plainer_ones():
    covered = frozenset("abce'o-. ")
    assert replace_uncovered("é ñ ’ — …", covered) == "e  ' - ..."
    assert built_in_face().restrict("  Ça “va”… ☐ ") == 'Ca "va"...'


def test_ligatures_are_one_piece_and_spell_the_text():
    for text in ("office", "flow fi f", "afflict", "no"):
        assert "".join(split_ligatures(text)) == text


def test_set_text_is_as_wide_as_its_advances_and_darker_where_ink_is():
    glyphs = atlas(built_in_face())
    line = glyphs.set_line("Handgloves 123")
    assert line.width == pytest.approx(glyphs.measure("Handgloves 123") * glyphs.size, abs=1e-6)
    columns = np.flatnonzero(line.ink.max(0) > 100)
    assert abs(columns[0] - line.x) < 8
    assert abs(columns[-1] - line.x - line.width) < 8
    assert glyphs.set_line("a b", word_spacing=1).width == pytest.approx(
        glyphs.set_line("a b").width + glyphs.size
    )
    assert line.ink[: line.baseline].sum() > 4 * line.ink[line.baseline :].sum()  # g alone goes below


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, 8), (8, 40), (40, 90), (90, 90)])
def test_texts_keep_to_their_length_and_to_the_alphabet(low, high):
    texts, rng = TextSource(), np.random.default_rng(low)
    for _ in range(200):
        text = texts.line(rng, high, low)
        assert low <= len(text) <= high
        assert set(text) <= set(ALPHABET)
        assert text == " ".join(text.split())


def test_every_character_of_the_alphabet_is_written():
    texts, rng = TextSource(), np.random.default_rng(3)
    seen = {character for _ in range(3000) for character in texts.line(rng, 60)}
    assert seen == set(ALPHABET)


def test_the_same_seed_writes_the_same():
    first, second = (
        [TextSource().line(rng, 50) for _ in range(40)]
        for rng in (np.random.default_rng(5), np.random.default_rng(5))
    )
    assert first == second


def test_accents_change_letters_only_into_their_own_forms():
    rng = np.random.default_rng(0)
    text = put_accents(rng, "the quick brown fox " * 10)
    assert text != "the quick brown fox " * 10
    assert set(text) <= set(ALPHABET)
    assert len(text) == 200
    assert len(random_string(rng, 30)) == 30


def test_markup_is_stripped():
    html = "<head><title>x</title></head><body><p>One &amp; <b>two</b></p><script>bad()</script>three</body>"
    assert strip_html(html).split() == ["One", "&", "two", "three"]
    roff = '.TH TAR 1\n.SH NAME\ntar \\- an \\fBarchiving\\fR utility\n.IR see " also"\n'
    assert strip_roff(roff).split() == ["NAME", "tar", "-", "an", "archiving", "utility", "see", "also"]


def test_a_corpus_gives_passages_of_whole_words_and_skips_unreadable_files(tmp_path):
    words = [f"word{i:03}" for i in range(400)]
    (tmp_path / "good").write_text(" ".join(words), "utf-8")
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8bnonsense")
    (tmp_path / "binary").write_bytes(bytes(range(128, 256)) * 100)
    rng = np.random.default_rng(0)
    good = Corpus("good", 1, [tmp_path / "good"])
    for _ in range(50):
        passage = good.passage(rng, 60)
        assert 40 < len(passage) <= 60
        assert set(passage.split()) <= set(words)
    for name in ("broken.gz", "binary", "missing"):
        assert len(Corpus(name, 1, [tmp_path / name]).passage(rng, 60)) <= 60


def test_about_one_document_in_twenty_is_held_out():
    assert 30 < sum(is_held_out(f"/some/document/{i}") for i in range(1000)) < 70


@pytest.fixture(scope="module")
def strip() -> np.ndarray:
    image = np.full((60, 400), 255, np.uint8)
    cv2.putText(image, "Sample of text", (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 0, 2)
    return image


@pytest.mark.parametrize("step", [step for _, step in degradations.STEPS], ids=lambda step: step.__name__)
@pytest.mark.parametrize("x_height", [4.2, 10.0, 22.0])
def test_every_degradation_changes_the_picture_but_not_its_shape(strip, step, x_height):
    before = strip.copy()
    results = [step(strip, np.random.default_rng(seed), x_height) for seed in range(6)]
    assert all(r.shape == strip.shape and r.dtype == np.uint8 for r in results)
    assert np.array_equal(strip, before), "the input must not be drawn on"
    if step is not degradations.bilevel and (step is not degradations.resample or x_height > 5):
        assert any(not np.array_equal(r, strip) for r in results)
    again = step(strip, np.random.default_rng(0), x_height)
    assert np.array_equal(again, results[0])


def test_a_quarter_stays_clean_and_no_amount_means_no_change(strip):
    rng = np.random.default_rng(0)
    untouched = sum(degradations.degrade(strip, rng) is strip for _ in range(300)) / 300
    assert 0.2 < untouched < 0.4
    assert np.array_equal(degradations.degrade(strip, rng, 0.0), strip)


def test_noise_has_the_asked_strength():
    rng = np.random.default_rng(0)
    grey = np.full((700, 5000), 128, np.uint8)  # larger than the tile that noise is cut from
    assert degradations.add_normal_noise(grey, rng, 10).std() == pytest.approx(10, rel=0.05)
    peppered = degradations.add_salt_and_pepper(grey, rng, 0.08)
    assert (peppered == 0).mean() == pytest.approx(0.04, rel=0.1)
    assert (peppered == 255).mean() == pytest.approx(0.04, rel=0.1)


@pytest.mark.parametrize("degraded", [False, True])
def test_lines_are_32_high_dark_on_white_and_long_enough_to_be_read(sampler, degraded):
    rng = np.random.default_rng(7)
    for _ in range(150):
        line = sampler(rng, 60, min_characters=1, degraded=degraded)
        assert line.image.dtype == np.uint8
        assert line.image.shape[0] == 32
        assert 1 <= len(line.text) <= 60
        assert np.median(line.image) > 127 or degraded
        # One output frame every 4 pixels: CTC needs one for each character and one between equal ones.
        assert line.image.shape[1] // 4 >= len(line.text) + sum(
            a == b for a, b in itertools.pairwise(line.text)
        )


def test_clean_lines_have_the_readers_scale_whatever_their_letters(system_fonts):
    """The x-height is 10 pixels for capitals too: a page is scaled as a whole, not line by line."""

    class Fixed(TextSource):
        def line(self, rng, max_characters, min_characters=1):
            return "xxxx"

    lines = LineSampler(system_fonts.split("train"), Fixed())
    lines._neighbours = lambda *arguments: None  # type: ignore[method-assign]
    lines._rule = lambda *arguments: None  # type: ignore[method-assign,assignment]
    rng = np.random.default_rng(1)
    heights = []
    for _ in range(100):
        rows = np.flatnonzero((lines(rng, 4, degraded=False).image < 128).any(1))
        heights.append(rows[-1] - rows[0] + 1)
    assert 8.5 < np.mean(heights) < 11.5
    assert np.percentile(heights, 95) <= 14


def test_a_pool_gives_back_what_was_written(tmp_path, sampler):
    rng = np.random.default_rng(2)
    for shard in (0, 3):
        pools.write_shard(tmp_path, shard, sampler, rng, 20)
    (tmp_path / "shard_0009.pixels.npy").write_bytes(b"half written")
    lines = pools.LinePool(tmp_path)
    assert len(lines) == 40 == len(lines.widths) == len(lines.lengths)
    again = np.random.default_rng(2)
    for i in range(20):
        low, high = pools.draw_length_range(again, 1, 90)
        expected = sampler(again, high, min_characters=low, degraded=again.random() >= 0.2)
        image, class_ids = lines[i]
        assert np.array_equal(image, expected.image)
        assert pools.decode(class_ids) == expected.text
        assert (lines.widths[i], lines.lengths[i]) == (image.shape[1], len(class_ids))
        assert class_ids.min() >= 1
        assert class_ids.max() <= len(ALPHABET)
    with pytest.raises(IndexError):
        lines[40]
    assert not list(tmp_path.glob(".*")), "no temporary files stay behind"


def test_lengths_follow_the_mixture_within_the_bounds():
    rng = np.random.default_rng(0)
    ranges = [pools.draw_length_range(rng, 1, 90) for _ in range(2000)]
    assert 0.2 < sum(high == 8 for _, high in ranges) / 2000 < 0.3
    for low, high in ((1, 2), (5, 20), (100, 120)):
        assert all(
            low <= a <= b <= high for a, b in (pools.draw_length_range(rng, low, high) for _ in range(50))
        )


def test_an_unwritable_folder_is_one_line(tmp_path, sampler):
    (tmp_path / "file").write_text("", "utf-8")
    rng = np.random.default_rng(0)
    with pytest.raises(OutputError, match=r"cannot write the shard to .*pool: Not a directory"):
        pools.write_shard(tmp_path / "file" / "pool", 0, sampler, rng, 2)
    pools.write_shard(tmp_path / "pool", 0, sampler, rng, 3, max_characters=9)
    written = pools.LinePool(tmp_path / "pool")
    assert len(written) == 3
    assert all(len(pools.decode(class_ids)) <= 9 for _, class_ids in (written[i] for i in range(3)))
