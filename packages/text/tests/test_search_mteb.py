"""An encoder in MTEB: the prompts of queries and documents, and what the results say of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from multiway_text.encoder.sentence import SentenceSettings

from packages.text.tests.tiny_encoder import sentence_model


@pytest.mark.requires("mteb")
def test_mteb_gets_vectors_with_the_prompts_of_search(tmp_path: Path) -> None:
    from mteb.types import PromptType
    from multiway_text.search.mteb_model import MtebEncoder

    prompts = {"query": "anna ", "passage": "tom "}
    sentence_model(tmp_path, SentenceSettings(normalize=True, prompts=prompts, default_prompt="query"))
    encoder = MtebEncoder(str(tmp_path))
    batches = [{"text": ["good film", "paris"]}, {"text": ["london"]}]
    texts = ["good film", "paris", "london"]
    for prompt_type, name in ((PromptType.document, "passage"), (PromptType.query, "query"), (None, "query")):
        found = encoder.encode(
            batches, prompt_type=prompt_type, task_metadata=None, hf_split="", hf_subset=""
        )
        np.testing.assert_allclose(found, encoder.model.embed(texts, prompt=name), atol=1e-6)
    assert encoder.mteb_model_meta.embed_dim == 32
