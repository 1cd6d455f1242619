"""The OpenAI SDK for Python in front of BASE_URL."""
import asyncio
import json
import os

import openai

BASE = os.environ["BASE_URL"]
client = openai.OpenAI(base_url=f"{BASE}/v1", api_key="unused", max_retries=0, timeout=20)
MODEL = "fake-model"
EXPECTED = json.loads(os.environ["EXPECTED"])
PARIS = EXPECTED["text"]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather of a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}}}}]


def user(text):
    return [{"role": "user", "content": text}]


def chat(text, **more):
    return client.chat.completions.create(model=MODEL, messages=user(text), **more)


def check_chat():
    reply = chat("What is the capital of France? 1")
    assert PARIS in reply.choices[0].message.content and reply.choices[0].finish_reason == "stop", reply
    assert reply.usage.total_tokens > 0 and reply.id and reply.created > 1_600_000_000 and reply._request_id


def check_stream_equals_whole_and_hides_usage():
    chunks = list(chat("What is the capital of France? 2", stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == chat("What is the capital of France? 2").choices[0].message.content, text
    assert all(chunk.choices and not chunk.usage for chunk in chunks), "usage that nobody asked for"


def check_stream_tells_usage_when_asked():
    chunks = list(chat("What is the capital of France? 3", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens > 0


def check_replay_is_new_and_the_same():
    first = chat("What is the capital of France? 4")
    again = client.chat.completions.with_raw_response.create(model=MODEL, messages=user("What is the capital of France? 4"))
    assert again.headers["x-weir-source"] == "exact", again.headers
    assert again.parse().id != first.id and again.parse().choices[0].message.content == first.choices[0].message.content


def check_tools_and_their_results():
    first = chat("Weather?", tools=TOOLS).choices[0]
    assert first.finish_reason == "tool_calls" and len(first.message.tool_calls) == len(EXPECTED["calls"]), first
    call = first.message.tool_calls[0]
    assert call.function.name and json.loads(call.function.arguments) == EXPECTED["calls"][0]
    messages = user("Weather?") + [first.message.model_dump(exclude_none=True)]
    messages += [{"role": "tool", "tool_call_id": made.id, "content": "21 degrees"} for made in first.message.tool_calls]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    assert PARIS in second.choices[0].message.content


def check_tools_stream():
    calls = {}
    for chunk in chat("Weather, streamed?", tools=TOOLS, stream=True):
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            entry = calls.setdefault(call.index, ["", ""])
            entry[0] += call.function.name or ""
            entry[1] += call.function.arguments or ""
    assert [json.loads(arguments) for _, arguments in calls.values()] == EXPECTED["calls"], calls


def check_json_schema():
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    reply = chat("Ada?", response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": schema}})
    assert json.loads(reply.choices[0].message.content) == EXPECTED["json"]


def check_picture():
    url = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    parts = [{"type": "text", "text": "What is in this picture?"}, {"type": "image_url", "image_url": {"url": url}}]
    assert client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}]).choices[0].message.content


def check_error():
    try:
        client.chat.completions.create(model="limited-1", messages=user("I am limited."))
    except openai.RateLimitError as error:
        assert error.response.headers["retry-after"] == "7" and error.body["message"] and error.request_id
    else:
        raise AssertionError("no error")


def check_responses():
    whole = client.responses.create(model=MODEL, input="What is the capital of France? 5")
    assert PARIS in whole.output_text and whole.status == "completed", whole
    with client.responses.stream(model=MODEL, input="What is the capital of France? 6") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed" and PARIS in final.output_text, kinds


def check_completions():
    if os.environ["KIND"] == "chat":
        return  # a provider of this protocol is asked in its own words, and this one does not play them
    assert PARIS in client.completions.create(model=MODEL, prompt="What is the capital of France? 7").choices[0].text


def check_models():
    assert "fake-model" in [model.id for model in client.models.list()]
    assert client.models.retrieve("fake-model").id == "fake-model"


def check_fifty_at_once():
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key="unused", max_retries=0) as many:
            ask = lambda n: many.chat.completions.create(model=MODEL, messages=user(f"What is the capital of France? {n}"))
            replies = await asyncio.gather(*(ask(n) for n in range(100, 150)))
            assert all(PARIS in reply.choices[0].message.content for reply in replies)
    asyncio.run(run())
