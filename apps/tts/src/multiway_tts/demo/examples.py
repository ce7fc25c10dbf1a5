"""Example scripts of the demo."""

from __future__ import annotations

EXAMPLES = {
    "Two speakers": (
        "Speaker 1: Good morning. Did you sleep well?\n"
        "Speaker 2: Very well, thank you. [pause:400ms] And you?\n"
        "Speaker 1: The wind was loud, but I like the sound of it.\n"
    ),
    "A story": (
        "There was once an old man who lived in a small house by the sea. Every evening he lit a lamp and put it in"
        " the window. [pause:600ms] Nobody knew why, and nobody asked.\n"
    ),
    "Four speakers": (
        "Speaker 1: Shall we begin with the numbers?\n"
        "Speaker 2: Yes, please. Sales are up by a third.\n"
        "Speaker 3: That is more than we had hoped for.\n"
        "Speaker 4: And the costs are the same as last year.\n"
    ),
    "Announcement": (
        "Please listen carefully. [pause:300ms] The train to the city leaves from the second platform."
        " [pause:300ms] Mind the step.\n"
    ),
}
