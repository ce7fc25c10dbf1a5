"""The demo for programs."""

from __future__ import annotations

import pytest
from multiway_core.app import launch
from multiway_text.sampling import SamplingOptions


@pytest.fixture(scope="module")
def client(folder):
    from gradio_client import Client
    from multiway_lm.demo import build_demo

    blocks = build_demo(str(folder), device="cpu")
    yield Client(launch(blocks, block=False), verbose=False)
    blocks.close(verbose=False)


def test_one_call_is_the_model(client, model) -> None:
    answer = client.predict("hello", "", 8, 0, 0, 1.0, 1.0, 3, api_name="/chat")
    expected = model.generate([{"role": "user", "content": "hello"}], SamplingOptions(max_tokens=8))[0]
    assert answer == expected.text


def test_an_error_is_one_line(client) -> None:
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match="all messages are empty"):
        client.predict(" ", "", 8, 0, 0, 1.0, 1.0, 3, api_name="/chat")
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/chat"}


def test_a_model_without_a_chat_format_hides_the_chat(plain_folder) -> None:
    from multiway_lm.demo import build_demo

    blocks = build_demo(str(plain_folder), device="cpu")
    tabs = {block.label: block.visible for block in blocks.blocks.values() if type(block).__name__ == "Tab"}
    assert tabs == {"Chat": False, "Continue": True, "Score": True}
    blocks.close(verbose=False)
