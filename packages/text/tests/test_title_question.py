"""What the bundled model writes, so that no change of decoding, quantization or tokenizer passes unseen.

The cases are such that bfloat16 arithmetic writes the same: they do not hang on the last bits of a processor.
"""

from __future__ import annotations

import pytest
import torch
from multiway_text.s2s_ft.pipeline import SummarizationPipeline

TITLES = {
    "Nikola Tesla was an inventor. He designed the AC supply system.": "Nikola Tesla",
    "The Amazon River in South America is the largest river by discharge volume of water in the world.": "Amazon River",
    "This package contains the development files for the library that reads and writes PNG images.": (
        "development files for reading PNG images"
    ),
}
PASSAGE, ANSWER = "Marie Curie won the Nobel Prize in Physics in 1903.", "Marie Curie"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_titles_and_a_question_of_the_bundled_model(dtype: torch.dtype) -> None:
    pipeline = SummarizationPipeline.from_pretrained("bundled:title-question", dtype=dtype)
    assert [title.title for title in pipeline.titles(list(TITLES))] == list(TITLES.values())
    (asked,) = pipeline.questions([(PASSAGE, ANSWER, None)])
    assert asked.question == "Who won the Nobel Prize in 1903?"
