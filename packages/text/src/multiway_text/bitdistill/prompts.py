"""Simple English prompts, drawn from forms and words; some bring their answer, the teacher answers the others.

Two kinds of held-out prompts: words that appear in no training prompt (``held_out``), and unseen combinations of known
forms and words, which are held out by whoever draws.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer

from multiway_text.bitdistill import word_lists


@dataclass(frozen=True)
class Prompt:
    """A user's message.

    Attributes:
        answer: None where the teacher has to answer.
        times: how often it is learnt where others are learnt once; what has no rule that a few rows show needs more.
    """

    text: str
    answer: str | None = None
    times: int = 1


def article(noun: str) -> str:
    """``noun`` with a or an, unless it has an article or takes none."""
    if noun.split()[0] in ("the", "a", "an") or noun in _WITHOUT_ARTICLE:
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun


_WITHOUT_ARTICLE = {
    *word_lists.NATURE,
    *word_lists.UNCOUNTABLE,
    *(idea for idea in word_lists.IDEAS if idea not in word_lists.THINGS),
}

# {a}: the word with its article; {w}: the word alone.
_ANY = (
    "What is {a}?", "Can you tell me what {a} is?", "Explain what {a} is.", "Define {w}.", "Describe {a}.",
    "Describe {a} in one sentence.", "Tell me about {a}.", "Tell me something about {a}.",
    "Tell me a fact about {a}.", "Give me an interesting fact about {a}.", "Write a sentence about {a}.",
    "Use the word {w} in a sentence.", "Write a short poem about {a}.", "Tell me a short story about {a}.",
    "Write two sentences about {a}.", "Explain {a} to a child.", "What do you know about {a}?",
    "What comes to mind when you hear the word {w}?", "Ask me a question about {a}.", "Give me a riddle about {a}.",
)  # fmt: skip
_WORD = (
    "What does {w} mean?", "What does the word {w} mean?", "Define {w}.", "Use the word {w} in a sentence.",
    "What comes to mind when you hear the word {w}?", "Tell me about {w}.", "What is {w}?",
    "Explain the word {w} to a child.",
)  # fmt: skip
_KIND = {
    "ANIMALS": (
        "What does {a} eat?", "Where does {a} live?", "What does {a} look like?", "What sound does {a} make?",
        "How many legs does {a} have?", "Is {a} dangerous?", "Can {a} swim?", "Can {a} fly?", "What color is {a}?",
        "Is {a} a good pet?", "How big is {a}?", "How fast is {a}?", "Why is {a} special?",
        "What is a baby {w} called?",
        "How long does {a} live?", "Give {a} a name.", "Is {a} a mammal?", "Compare {a} and {b}.",
    ),
    "FOODS": (
        "What color is {a}?", "What does {a} taste like?", "Is {a} healthy?", "How do you eat {a}?",
        "What can I make with {a}?", "Where does {a} come from?", "Is {a} a fruit or a vegetable?",
        "How do you store {a}?", "Give me a simple recipe with {a}.", "Why do people like {a}?",
        "What goes well with {a}?", "Which is healthier, {a} or {b}?", "Can dogs eat {a}?",
    ),
    "THINGS": (
        "What is {a} used for?", "What is {a} made of?", "How do you use {a}?", "Where can I buy {a}?",
        "Where do you find {a}?", "Why do people need {a}?", "How does {a} work?", "Who invented {a}?",
        "What color is {a} usually?", "How do I clean {a}?", "What is the difference between {a} and {b}?",
        "Name three uses of {a}.", "How do I choose a good {w}?",
    ),
    "PLACES": (
        "What can you do at {a}?", "What do you find in {a}?", "Who works at {a}?", "Why do people go to {a}?",
        "What does {a} look like?", "How should I behave in {a}?", "What do I need for a visit to {a}?",
        "What sounds do you hear at {a}?", "Name three things you can see at {a}.",
    ),
    "JOBS": (
        "What does {a} do?", "Where does {a} work?", "What tools does {a} use?", "How do I become {a}?",
        "Is being {a} hard?", "What skills does {a} need?", "Why is {a} important?",
        "What is the best part of being {a}?", "Write a sentence that {a} might say.",
    ),
    "NATURE": (
        "Where does {a} come from?", "Why is {w} important?", "What is {w} made of?", "What does {w} look like?",
        "What is {w} used for?", "How is {w} formed?", "Is {w} dangerous?", "How do people use {w}?",
    ),
    "IDEAS": (
        "Why is {w} important?", "Explain {w} in simple words.", "Give me an example of {w}.", "How does {w} work?",
        "What are the benefits of {w}?", "Who studies {w}?", "Give me a tip about {w}.", "How can I learn about {w}?",
        "Name three things about {w}.", "What is the opposite of {w}?",
    ),
}  # fmt: skip
_ACTION = (
    "How do I {w}?", "How can I {w}?", "What is the best way to {w}?", "Give me a tip to {w}.",
    "Can you explain how to {w}?", "What do I need to {w}?", "Name three steps to {w}.",
    "I want to {w}. What should I do?",
    "Why should I {w}?", "Is it hard to {w}?", "How long does it take to {w}?", "Teach me to {w}.",
)  # fmt: skip
_WHY = ("Why {w}?", "Can you tell me why {w}?", "Do you know why {w}?", "Explain why {w}.")
_COUNTRY = (
    "Where is {w}?", "What is {w} famous for?", "What language do people speak in {w}?", "Tell me about {w}.",
    "What food is popular in {w}?", "What is the weather like in {w}?", "Name a city in {w}.", "Is {w} a big country?",
    "On which continent is {w}?", "What can I visit in {w}?", "What money do they use in {w}?",
)  # fmt: skip
_HELLO = (
    "Hello",
    "Hi",
    "Hello!",
    "Hi!",
    "Hi there!",
    "Hey",
    "Hey!",
    "Good morning!",
    "Good evening!",
    "Hello there",
)
_TALK = {
    _HELLO: ("Hello! How can I help you today?", "Hi there! What can I do for you?"),
    ("How are you?", "How are you today?", "How do you feel?", "Are you okay?", "How is it going?"): (
        "I am fine, thank you! How can I help you?",
    ),
    (
        "Who are you?",
        "What are you?",
        "What is your name?",
        "Tell me about yourself.",
        "Introduce yourself.",
        "What's your name?",
        "Who am I talking to?",
        "Which model are you?",
    ): ("I am a small language model. My weights are only -1, 0 and 1. I can answer simple questions.",),
    ("Who made you?", "Who created you?", "Where do you come from?", "How were you made?"): (
        "I was made by the Multiway project, and I learned my answers from a larger model.",
    ),
    ("What can you do?", "How can you help me?", "What can I ask you?", "Help", "Help me"): (
        "I can answer simple questions, explain words, and write short sentences. I make mistakes, so check them.",
    ),
    ("Are you a robot?", "Are you human?", "Are you a person?", "Are you alive?"): (
        "No, I am a computer program, a small language model.",
    ),
    ("What time is it?", "What day is it today?", "What is the date today?", "What is the weather today?"): (
        "I do not know. I have no clock and no internet.",
    ),
    ("Tell me a joke.", "Tell me a joke", "Do you know a joke?", "Make me laugh."): (
        "Why did the teddy bear say no to the cake? Because it was stuffed!",
    ),
    ("Thank you", "Thanks", "Thank you!", "Thanks a lot!", "Thank you very much."): ("You are welcome!",),
    ("Goodbye", "Bye", "Bye!", "See you later!", "Good night!"): ("Goodbye! Have a nice day!",),
    ("Are you smart?", "Do you know everything?", "Can you make mistakes?", "Are you always right?"): (
        "I am a small model and I often make mistakes. Please check what I say.",
    ),
}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


def held_out(word: str) -> bool:
    """Whether a word is kept out of every training prompt: one in twenty, always the same ones."""
    return random.Random(f"held out {word}").random() < 0.05


def known() -> Iterator[Prompt]:
    """Prompts with their answers, all of them: talk, facts, capitals, opposites, days, months, small sums."""
    for prompts, answers in _TALK.items():
        for index, prompt in enumerate(prompts):
            yield Prompt(prompt, answers[index % len(answers)], times=5)
    for questions, answer in word_lists.FACTS.items():
        for question in questions.split("/"):
            yield Prompt(question, answer, times=5)
    for country, capital in word_lists.CAPITALS.items():
        answer = f"The capital of {country} is {capital}"
        answer += "" if answer.endswith(".") else "."
        for form in ("What is the capital of {}?", "What's the capital of {}?", "Tell me the capital of {}.",
                     "Which city is the capital of {}?", "What is the capital city of {}?",
                     "Capital of {}?"):  # fmt: skip
            yield Prompt(form.format(country), answer)
        yield Prompt(f"Which country has the capital {capital}?", f"{capital} is the capital of {country}.")
    # "short" is the opposite of "tall" and of "long": one of them is learnt.
    opposites = {other: one for one, other in reversed(word_lists.OPPOSITES.items())} | word_lists.OPPOSITES
    for word, answer in opposites.items():
        for form in ("What is the opposite of {}?", "What's the opposite of {}?", "Tell me the opposite of {}.",
                     "Give me an antonym of {}."):  # fmt: skip
            yield Prompt(form.format(word), f"The opposite of {word} is {answer}.")
    for names, what in ((_DAYS, "day"), (_MONTHS, "month")):
        for index, name in enumerate(names):
            after = names[(index + 1) % len(names)]
            for form in ("What {} comes after {}?", "Which {} follows {}?", "What is the {} after {}?"):
                yield Prompt(form.format(what, name), f"The {what} after {name} is {after}.", times=12)
            for form in ("What {} comes before {}?", "What is the {} before {}?"):
                yield Prompt(form.format(what, after), f"The {what} before {after} is {name}.", times=12)
    for left in range(13):
        for right in range(13):
            for text, answer in (
                (f"What is {left} plus {right}?", f"{left} plus {right} is {left + right}."),
                (f"What is {left} + {right}?", f"{left} + {right} = {left + right}"),
                (f"What is {left + right} minus {right}?", f"{left + right} minus {right} is {left}."),
                (f"What is {left} times {right}?", f"{left} times {right} is {left * right}."),
            ):
                yield Prompt(text, answer, times=6)


def forms() -> Iterator[tuple[str, str]]:
    """(prompt, its word) of every form and word that the teacher answers."""
    for kind, own in _KIND.items():
        nouns = getattr(word_lists, kind)
        for index, noun in enumerate(nouns):
            other = nouns[(index * 7 + 3) % len(nouns)]
            for form in (*_ANY, *own):
                yield form.format(a=article(noun), w=noun, b=article(other) if "{a}" in form else other), noun
    for action in word_lists.ACTIONS:
        yield from ((form.format(w=action), action) for form in _ACTION)
    for why in word_lists.WHYS:
        plain = _statement(why)
        for form in _WHY:
            yield form.format(w=why if form == "Why {w}?" else plain), why
    for country in word_lists.CAPITALS:
        yield from ((form.format(w=country), country) for form in _COUNTRY)


def _statement(question: str) -> str:
    """``is the sky blue`` -> ``the sky is blue``; ``do we sleep`` -> ``we sleep``; ``does it rain`` -> ``it rains``."""
    verb, *rest = question.split()
    if verb == "do":
        return " ".join(rest)
    count = 2 if rest[0] in ("the", "a") else 1
    subject, tail = rest[:count], rest[count:]
    if verb == "does":
        tail = [tail[0] + "s", *tail[1:]]
        return " ".join(subject + tail)
    return " ".join([*subject, verb, *tail])


def draw(seed: int = 0) -> tuple[list[Prompt], list[Prompt]]:
    """All prompts for the teacher in random order: those to train on, and those of held-out words."""
    train: list[Prompt] = []
    test: list[Prompt] = []
    for text, word in forms():
        (test if held_out(word) else train).append(Prompt(text))
    rng = random.Random(seed)
    rng.shuffle(train)
    rng.shuffle(test)
    return train, test


def of_vocabulary(tokenizer: Tokenizer, seed: int = 0) -> list[Prompt]:
    """A prompt for the teacher about every word of its own vocabulary, in random order.

    Those are its tokens that stand behind a space and have four or more small letters; some are only the beginning of a
    word. Left out are the words of :func:`forms`, and whatever begins as a held-out one does.
    """
    asked = {part for _, word in forms() for part in word.lower().split()}
    kept_out = tuple(part for part in _parts_held_out() if len(part) > 2)
    found = sorted(
        word
        for token in tokenizer.get_vocab()
        if re.fullmatch("Ġ[a-z]{4,}", token)
        and (word := token[1:]) not in asked
        and not word.startswith(kept_out)
    )
    rng = random.Random(seed)
    return [Prompt(rng.choice(_WORD).format(w=word)) for word in rng.sample(found, len(found))]


def _parts_held_out() -> set[str]:
    return {part for _, word in forms() if held_out(word) for part in word.lower().split()}
