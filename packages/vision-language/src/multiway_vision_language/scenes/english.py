"""English of object names: articles, plurals, numbers."""

from __future__ import annotations

_PLURALS = {
    "mouse": "mice", "computer mouse": "computer mice", "knife": "knives", "leaf": "leaves", "wolf": "wolves",
    "person": "people", "man": "men", "woman": "women", "goose": "geese", "sheep": "sheep", "deer": "deer",
    "fish": "fish", "shrimp": "shrimp", "ox": "oxen", "bread": "loaves of bread", "spaghetti": "spaghetti",
}  # fmt: skip
# Names that are plural by themselves and take no article.
_PAIRS = {
    "skis", "scissors", "glasses", "headphones", "jeans", "fries", "grapes", "goggles", "sunglasses", "shorts",
    "pancakes", "beans", "ballet shoes", "skates", "chopsticks",
}  # fmt: skip
# Other words for the same thing.
SYNONYMS = {
    "airplane": ("plane", "aeroplane", "jet"), "bicycle": ("bike",), "motorcycle": ("motorbike",), "couch": ("sofa",),
    "tv": ("television", "screen", "monitor"), "cell phone": ("phone", "mobile phone"), "telephone": ("phone",),
    "cat": ("kitten",), "dog": ("puppy",), "cow": ("bull", "calf"), "car": ("suv", "jeep", "automobile"),
    "refrigerator": ("fridge",), "handbag": ("purse",), "dining table": ("table",), "potted plant": ("plant",),
    "donut": ("doughnut",), "person": ("human",), "coat": ("jacket",), "bin": ("trash can",),
}  # fmt: skip
_NUMBERS = ("zero", "one", "two", "three", "four", "five")


def plural(name: str) -> str:
    """The plural of an object's name."""
    if name in _PAIRS:
        return name
    if name in _PLURALS:
        return _PLURALS[name]
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def with_article(phrase: str) -> str:
    """ "a dog", "an apple", "scissors". ``phrase``: a name, perhaps with one adjective before it."""
    if phrase in _PAIRS or phrase.split(" ", 1)[-1] in _PAIRS:
        return phrase
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def number(count: int) -> str:
    """ "two" to "five", then "many"."""
    return _NUMBERS[count] if count < len(_NUMBERS) else "many"
