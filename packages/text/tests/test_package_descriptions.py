import bz2
import lzma
import re

import pytest
from multiway_core.errors import DataError, InputError
from multiway_text.data import package_descriptions as data

PACKAGES = """\
Package: zoo-12
Source: zoo-12 (12.1)
Section: contrib/games
Description: animals to feed
Description-md5: aaa
Tag: role::program,
 game::toys

Package: zoo-13
Source: zoo-13
Section: games
Description-md5: bbb

Package: bare
Section: utils
Description-md5: ccc
"""
ENGLISH = """\
Package: zoo-12
Description-md5: aaa
Description-en: animals to feed
 Feed  the animals of
 a zoo.
 .
 There are:
  * lions
  * ducks
 .
 Enjoy.

Package: zoo-13
Description-md5: bbb
Description-en: animals to watch
 Watch the animals: 13.

Package: bare
Description-md5: ccc
Description-en: nothing more
"""
BRAZIL = """\
Package: zoo-12
Description-md5: aaa
Description-pt_BR: animais
 Alimente os animais.
 \u00a0
 Divirta-se.

Package: gone
Description-md5: zzz
Description-pt_BR: sumiu
 Nada.
"""


@pytest.fixture
def index(tmp_path):
    (tmp_path / "Packages").write_text(PACKAGES)
    (tmp_path / "Translation-en.bz2").write_bytes(bz2.compress(ENGLISH.encode()))
    (tmp_path / "Translation-pt_BR.xz").write_bytes(lzma.compress(BRAZIL.encode()))
    return sorted(tmp_path.iterdir())


def test_records(index):
    english, watch, brazil = data.read(index)
    assert english == data.PackageDescription(
        "aaa", "zoo-12", "zoo-12", "games", "animals to feed",
        "Feed the animals of a zoo.\n\nThere are:\n* lions\n* ducks\n\nEnjoy.", "en",
    )  # fmt: skip
    assert english.family == watch.family == "zoo"
    assert (brazil.language, brazil.id, brazil.source) == ("pt_BR", "aaa", "zoo-12")
    assert brazil.body == "Alimente os animais.\n\nDivirta-se."


def test_the_same_body_is_kept_once(index, tmp_path):
    index[1].write_bytes(bz2.compress((ENGLISH.replace("Watch the animals: 13.", "Enjoy 1 zoo")).encode()))
    other = PACKAGES + "\nPackage: copy\nSection: doc\nDescription-md5: ddd\n"
    index[0].write_text(other)
    index[2].write_bytes(lzma.compress(b"Description-md5: ddd\nDescription-en: again\n ENJOY 22 zoo.\n"))
    assert [record.package for record in data.read(index)] == ["zoo-12", "zoo-13"]


def records(body):
    """900 of 300 source packages."""
    return [
        data.PackageDescription(
            str(i), f"p{i}", f"s{chr(97 + i // 78)}{chr(97 + i // 3 % 26)}", "x", "t", text, "en"
        )
        for i in range(900)
        for text in [body.format(chr(0x4E00 + i))]
    ]


def test_split_by_source_seeded():
    made = records("{} words")
    parts = data.split(made)
    assert sum(map(len, parts.values())) == 900
    assert 650 < len(parts["train"]) < 790
    assert min(len(parts["dev"]), len(parts["test"])) > 40
    train, dev, test = ({record.family for record in part} for part in parts.values())
    assert len(train | dev | test) == len(train) + len(dev) + len(test)
    assert parts == data.split(made)
    assert parts["test"] != data.split(made, seed=1)["test"]


def test_an_opening_seen_in_training_is_left_out():
    train, dev, test = data.split(records("the same\n\n{}")).values()
    assert train
    assert not dev
    assert not test


def test_write_and_load(index, tmp_path):
    found = data.read(index)
    data.write({"train": found}, tmp_path / "out")
    assert data.load(tmp_path / "out" / "train.jsonl") == found
    with (tmp_path / "out" / "train.jsonl").open("a") as file:
        file.write('{"id": 1}\n')
    with pytest.raises(DataError, match=r"train.jsonl:4: not a package description"):
        data.load(tmp_path / "out" / "train.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" astray\n", "Packages:1: a continuation"),
        ("Package: a\nno colon here\n", "Packages:2: expected 'Field"),
    ],
)
def test_damaged_index(tmp_path, text, message):
    (tmp_path / "Packages").write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        data.read([tmp_path / "Packages"])


def test_translations_that_apt_was_told_to_fetch_are_found(tmp_path, monkeypatch):
    """A machine whose settings name no language lists translations only where the language is asked for."""
    packages, german = tmp_path / "main_Packages", tmp_path / "main_i18n_Translation-de"
    packages.touch()
    asked = []

    def apt(command, **_):
        asked.append(command)
        there = "Acquire::Languages=de" in command
        listed = packages if command[-1].endswith("Packages") else german if there else None
        return type("Done", (), {"stdout": f"{listed}\n" if listed else ""})

    monkeypatch.setattr(data.shutil, "which", lambda name: name)
    monkeypatch.setattr(data.subprocess, "run", apt)
    with pytest.raises(InputError, match="run: apt-get -o Acquire::Languages=de update"):
        data.apt_indexes(["de"])
    german.touch()
    assert data.apt_indexes(["de"]) == [packages, german]


def test_bad_input(tmp_path, index):
    with pytest.raises(InputError, match="no index file"):
        data.read([])
    with pytest.raises(DataError, match="cannot read"):
        data.read([tmp_path / "absent"])
    with pytest.raises(DataError, match="both a Packages file"):
        data.read(index[1:])
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8bnot")
    with pytest.raises(DataError, match=r"broken\.gz"):
        data.read([tmp_path / "broken.gz"])
    with pytest.raises(InputError, match="add up"):
        data.split([], shares={"train": 0.5})
