"""What clients of the OpenAI API ask for beyond text: echoed prompts, JSON, functions, vectors, models; refusals."""

from __future__ import annotations

import json
import math

import openai
import pytest
from multiway_core.tokenization import TextTokenizer
from multiway_lm.server.tools import split_calls
from multiway_text.chat_template import ChatTemplate

from apps.lm.tests.test_server import Served

TOOLS_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a town."}}


@pytest.fixture(scope="module")
def served(model):
    with Served(model) as served:
        yield served


@pytest.fixture(scope="module")
def client(served):
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("ids", [False, True])
def test_an_echoed_prompt_has_its_probabilities(client, model, ids: bool) -> None:
    """As lm-eval's `local-completions` asks for them: everything but the first token has one."""
    text = "A river runs through the town."
    tokens = model.prompt_ids(text)
    answer = client.completions.create(
        model="tiny", prompt=tokens if ids else text, max_tokens=1, echo=True, logprobs=2, temperature=0
    )
    choice = answer.choices[0]
    assert choice.text.startswith(text)
    assert "".join(choice.logprobs.tokens) == choice.text
    assert len(choice.logprobs.tokens) == len(tokens) + 1
    assert choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.top_logprobs[0] is None
    (score,) = model.log_likelihoods([(tokens[:1], tokens[1:])])
    assert choice.logprobs.token_logprobs[1:-1] == pytest.approx(score.log_probs, abs=1e-4)
    for is_best, best, token in zip(
        score.greedy, choice.logprobs.top_logprobs[1:-1], choice.logprobs.tokens[1:-1], strict=True
    ):
        assert len(best) <= 2
        assert (max(best, key=best.get) == token) == is_best
    assert choice.logprobs.text_offset[-1] == len(text)
    assert answer.usage.completion_tokens == 1


def test_a_prompt_alone_is_scored(client) -> None:
    answer = client.completions.create(
        model="tiny", prompt=["A river", "The quick"], max_tokens=0, echo=True, logprobs=0
    )
    assert [choice.text for choice in answer.choices] == ["A river", "The quick"]
    assert [choice.finish_reason for choice in answer.choices] == ["length"] * 2
    assert answer.usage.completion_tokens == 0


def test_an_echo_is_streamed_first(client) -> None:
    chunks = client.completions.create(
        model="tiny", prompt="A river", max_tokens=3, echo=True, stream=True, temperature=0
    )
    texts = [chunk.choices[0].text for chunk in chunks]
    assert texts[0] == "A river"
    whole = client.completions.create(model="tiny", prompt="A river", max_tokens=3, echo=True, temperature=0)
    assert "".join(texts) == whole.choices[0].text


SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "sure": {"type": "boolean"},
    },
    "required": ["colour", "count", "sure"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("temperature", [0, 1])
def test_json_of_a_schema(client, temperature: int) -> None:
    """From a network of random weights, which by itself writes noise."""
    answer = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Hi"}], temperature=temperature, n=3, seed=1,
        max_tokens=120,
        response_format={"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}},
    )  # fmt: skip
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        found = json.loads(choice.message.content)
        assert list(found) == ["colour", "count", "sure"]
        assert found["colour"] in ("red", "green", "blue")
        assert 0 <= found["count"] <= 9
        assert isinstance(found["sure"], bool)


def test_any_json_object(served) -> None:
    body = served.post(
        prompt="A", max_tokens=20, temperature=1, seed=0, response_format={"type": "json_object"}
    ).json()
    assert body["choices"][0]["text"].lstrip().startswith("{")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"type": "json_schema"}, "needs json_schema"),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nope"}}}, "Invalid type"),
        ({"type": "xml"}, "response_format"),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"$ref": "http://127.0.0.1/x"}},
            },
            "cannot be used",
        ),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(served, given, says) -> None:
    reply = served.post(
        "chat/completions", messages=[{"role": "user", "content": "Hi"}], response_format=given
    )
    assert reply.status_code == 400
    assert says in reply.json()["error"]["message"]


def test_functions_reach_the_template_and_calls_come_back(model, monkeypatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(model, "chat_template", ChatTemplate(TOOLS_TEMPLATE))
    render = ChatTemplate.render
    monkeypatch.setattr(ChatTemplate, "render", lambda *a, **o: seen.append(render(*a, **o)) or seen[-1])
    called = 'Let me look. <tool_call>{"name": "weather", "arguments": {"town": "Malmö"}}</tool_call>'
    monkeypatch.setattr(TextTokenizer, "decode", lambda *_, **__: called)
    with Served(model) as served:
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        call = {
            "id": "1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"town": "Lund"}'},
        }
        messages = [
            {"role": "user", "content": "Lund?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "rain", "tool_call_id": "1"},
        ]
        options = {"model": "tiny", "messages": messages, "tools": [WEATHER], "max_tokens": 1}
        choice = client.chat.completions.create(**options).choices[0]
        assert '"name": "weather", "description": "Of a town."' in seen[0]
        assert '<tool_call>{"name": "weather", "arguments": {"town": "Lund"}}</tool_call>' in seen[0]
        assert "<|im_start|>tool\nrain" in seen[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "Let me look."
        (found,) = choice.message.tool_calls
        assert (found.function.name, json.loads(found.function.arguments)) == ("weather", {"town": "Malmö"})
        chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**options, stream=True)]
        assert chunks[-1].finish_reason == "tool_calls"
        assert chunks[-1].delta.tool_calls[0].function.name == "weather"
        client.chat.completions.create(**options, tool_choice="none")
        assert "description" not in seen[-1]
        with pytest.raises(openai.BadRequestError, match="leaves the choice to the model"):
            client.chat.completions.create(**options, tool_choice="required")


def test_what_calls_no_known_function_stays_text() -> None:
    for text in (
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": 3}</tool_call>',
        "<tool_call>{nonsense}</tool_call>",
        "plain",
    ):
        assert split_calls(text, {"weather"}) == (text, [])


def test_tools_of_a_model_that_takes_none(served) -> None:
    reply = served.post(
        "chat/completions", messages=[{"role": "user", "content": "Hi"}], tools=[WEATHER], max_tokens=1
    )
    assert reply.status_code == 400
    assert "takes no tools" in reply.json()["error"]["message"]


def test_embeddings(client, model) -> None:
    texts = ["The quick brown fox", "A river"]
    answer = client.embeddings.create(model="tiny", input=texts)  # the client asks for base64
    assert [len(item.embedding) for item in answer.data] == [32, 32]
    assert math.hypot(*answer.data[0].embedding) == pytest.approx(1, abs=1e-5)
    alone = client.embeddings.create(model="tiny", input=model.prompt_ids(texts[1]), encoding_format="float")
    assert alone.data[0].embedding == pytest.approx(answer.data[1].embedding, abs=1e-5)
    with pytest.raises(openai.BadRequestError, match="dimensions is not supported"):
        client.embeddings.create(model="tiny", input="a", dimensions=3)
    with pytest.raises(openai.BadRequestError, match="the prompt is empty"):
        client.embeddings.create(model="tiny", input=["a", ""])


def test_models(client, model) -> None:
    assert [one.id for one in client.models.list()] == ["tiny"]
    found = client.models.retrieve("tiny")
    assert (found.id, found.max_model_len) == ("tiny", model.max_positions)
    with pytest.raises(openai.NotFoundError, match="there is no model 'other'"):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    ("field", "value"), [("min_p", 0.1), ("logit_bias", {"5": 1}), ("temprature", 0.5), ("best_of", 2)]
)
def test_unknown_options_are_refused(served, field, value) -> None:
    reply = served.post(prompt="A", max_tokens=1, **{field: value})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"] == f"{field} is not supported by this server"
    assert reply.json()["error"]["param"] == field


def test_labels_are_taken(served) -> None:
    reply = served.post(prompt="A", max_tokens=1, user="me", best_of=1, logit_bias={})
    assert reply.status_code == 200
