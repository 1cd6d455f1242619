"""The Anthropic SDK for Python in front of BASE_URL."""
import json
import os

import anthropic

BASE = os.environ["BASE_URL"]
client = anthropic.Anthropic(base_url=BASE, api_key="unused", max_retries=0, timeout=20)
MODEL = "fake-model"
EXPECTED = json.loads(os.environ["EXPECTED"])
PARIS = EXPECTED["text"]
TOOLS = [{"name": "get_weather", "description": "The weather of a city", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string"}}}}]


def ask(text, **more):
    return client.messages.create(**{"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": text}], **more})


def check_message():
    reply = ask("What is the capital of France? a1", system="Be brief.")
    assert PARIS in reply.content[0].text and reply.stop_reason == "end_turn" and reply.usage.output_tokens > 0, reply
    assert reply.id and reply._request_id


def check_stream():
    with client.messages.stream(model=MODEL, max_tokens=500, messages=[{"role": "user", "content": "What is the capital of France? a2"}]) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert PARIS in text and final.content[0].text == text and final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0


def check_events_in_order():
    kinds = [event.type for event in ask("What is the capital of France? a3", stream=True)]
    kinds = [kind for at, kind in enumerate(kinds) if kind != "ping" and (at == 0 or kinds[at - 1] != kind)]
    wanted = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"]
    # A ping in between may part two runs of deltas.
    assert [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind] == wanted, kinds


def check_tools_and_their_results():
    first = ask("Weather?", tools=TOOLS)
    uses = [block for block in first.content if block.type == "tool_use"]
    assert first.stop_reason == "tool_use" and [use.input for use in uses] == EXPECTED["calls"], first
    made = [block.model_dump(include={"type", "id", "name", "input"}) for block in uses]
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": "21 degrees"} for use in uses]
    messages = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": made}, {"role": "user", "content": results}]
    assert PARIS in ask("", messages=messages, tools=TOOLS).content[0].text


def check_tools_stream():
    with client.messages.stream(model=MODEL, max_tokens=500, tools=TOOLS, messages=[{"role": "user", "content": "Weather, streamed?"}]) as stream:
        final = stream.get_final_message()
    assert [block.input for block in final.content if block.type == "tool_use"] == EXPECTED["calls"], final


def check_thoughts():
    reply = ask("Do think: what is 2 + 2?")
    kinds = [block.type for block in reply.content]
    assert kinds[0] == "thinking" and "text" in kinds and reply.content[0].thinking, reply


def check_error():
    try:
        ask("I am limited.", model="limited-2")
    except anthropic.RateLimitError as error:
        assert error.body["error"]["type"] == "rate_limit_error" and error.response.headers["retry-after"] == "7"
        assert error.request_id
    else:
        raise AssertionError("no error")


def check_count_tokens():
    counted = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "x" * 400}]).input_tokens
    assert counted == (77 if os.environ["KIND"] == "anthropic" else 104), counted


def check_models():
    assert "fake-model" in [model.id for model in client.models.list()]
