"""What comes with the app: notes that were written for it, questions that they answer in other words, photographs."""

from __future__ import annotations

from pathlib import Path

NOTES = Path(__file__).parent / "notes"
PHOTOGRAPHS = Path(__file__).parent / "photographs"
LANGUAGES = {"en": "English", "de": "Deutsch", "fr": "Français", "es": "Español"}
"""Folders of the notes; the flat, the bread and the garden are in all of them."""
QUESTIONS = {
    "When do I have to pay the landlady?": "flat",
    "How do I get my security back when I leave?": "flat",
    "What to do if the radiator does not get warm?": "boiler",
    "How much air do the wheels of my bike need?": "bicycle",
    "Which gears did I buy?": "bicycle",
    "Why did my loaf not rise well?": "sourdough",
    "How hot does the oven dish have to be for baking?": "sourdough",
    "Protect vegetables against snails": "garden",
    "When is it warm enough to plant outdoors?": "garden",
    "medicine for the pet": "cat",
    "Which bed should I book on the railway?": "travel",
    "Can I pay by card in Sweden?": "travel",
    "How do visitors get on the internet?": "wifi",
    "Are my files saved somewhere else?": "wifi",
    "On which evening do we sing?": "choir",
    "Which documents does the finance office want?": "taxes",
    "signs of a brain attack": "first-aid",
    "I have touched the hot stove": "first-aid",
    "Why is the image of the planet shaky?": "telescope",
    "watching meteors in summer": "telescope",
    "My shot runs through too quickly": "coffee",
    "removing limescale": "coffee",
    "What must my daughter pack for the trip?": "school",
    "Whom do I inform about a new address?": "moving",
    "How do I keep the colony from flying away?": "bees",
    "When can I harvest the sweet stuff from the combs?": "bees",
}
"""Question -> name of the note, in English."""
