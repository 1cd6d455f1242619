"""Ollama's client for Python in front of BASE_URL."""
import asyncio
import json
import os

import ollama

client = ollama.Client(host=os.environ["BASE_URL"], timeout=20)
MODEL = "fake-model"
EXPECTED = json.loads(os.environ["EXPECTED"])
PARIS = EXPECTED["text"]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name", "age"]}


def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: The city
    """
    return city


def user(text, **more):
    return [{"role": "user", "content": text, **more}]


def chat(text, **more):
    return client.chat(model=MODEL, messages=user(text), **more)


def calls_in(*replies):
    return [dict(call.function.arguments) for reply in replies for call in reply.message.tool_calls or []]


def check_chat():
    reply = chat("What is the capital of France? o1", options={"temperature": 0.2, "num_predict": 300})
    assert reply.message.content == PARIS and reply.message.role == "assistant" and reply.done and reply.done_reason == "stop", reply
    assert reply.eval_count > 0 and reply.prompt_eval_count > 0 and reply.created_at and reply.model


def check_chat_stream_equals_whole():
    chunks = list(chat("What is the capital of France? o2", stream=True))
    assert "".join(chunk.message.content or "" for chunk in chunks) == PARIS and len(chunks) > 1
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].done_reason == "stop" and chunks[-1].eval_count > 0
    assert chat("What is the capital of France? o2").message.content == PARIS


def check_generate():
    reply = client.generate(model=MODEL, prompt="What is the capital of France? o3", system="Be brief.")
    assert reply.response and reply.done and reply.eval_count > 0, reply
    # Ollama has an answer of its own for this path.
    assert reply.response == PARIS or os.environ["KIND"] == "ollama", reply
    chunks = list(client.generate(model=MODEL, prompt="What is the capital of France? o4", stream=True))
    assert "".join(chunk.response for chunk in chunks) == reply.response and chunks[-1].done


def check_tools_and_their_results():
    first = chat("Weather?", tools=[get_weather])
    assert calls_in(first) == EXPECTED["calls"], first
    messages = [*user("Weather?"), first.message]
    messages += [{"role": "tool", "tool_name": call.function.name, "content": "21 degrees"} for call in first.message.tool_calls]
    assert PARIS in client.chat(model=MODEL, messages=messages, tools=[get_weather]).message.content


def check_tools_stream():
    chunks = list(chat("Weather, streamed?", tools=[get_weather], stream=True))
    assert calls_in(*chunks) == EXPECTED["calls"] and chunks[-1].done, chunks


def check_json_schema():
    assert json.loads(chat("Ada?", format=PERSON).message.content) == EXPECTED["json"]
    text = "".join(chunk.message.content or "" for chunk in chat("Ada, streamed?", format=PERSON, stream=True))
    assert json.loads(text) == EXPECTED["json"]


def check_picture():
    assert client.chat(model=MODEL, messages=user("What is in this picture?", images=[PNG])).message.content
    assert client.generate(model=MODEL, prompt="What is in this picture?", images=[PNG]).response


def check_thoughts():
    reply = chat("Do think: what is 2 + 2?", think=True)
    assert reply.message.thinking and reply.message.content, reply


def check_error():
    sends = (
        lambda text: client.chat(model="limited-5", messages=user(text)),
        lambda text: list(client.chat(model="limited-6", messages=user(text), stream=True)),
        lambda text: client.generate(model="limited-7", prompt=text),
    )
    for send in sends:
        try:
            send("I am limited.")
        except ollama.ResponseError as error:
            assert error.status_code == 429 and error.error, error
        else:
            raise AssertionError("no error")


def check_models():
    assert MODEL in [model.model for model in client.list().models]
    assert "completion" in client.show(MODEL).capabilities
    assert client.ps().models is not None
    try:
        client.show("no-such-model")
    except ollama.ResponseError as error:
        assert error.status_code == 404, error
    else:
        raise AssertionError("no error")


def check_embed():
    if os.environ["KIND"] == "ollama":
        assert client.embed(model=MODEL, input=["one text"]).embeddings == [[0.5, 0.25]]
        return
    try:
        client.embed(model=MODEL, input="one text")
    except ollama.ResponseError as error:
        assert error.status_code == 404, error
    else:
        raise AssertionError("no error")


def check_loads_and_unloads():
    assert client.generate(model=MODEL).done_reason == "load"
    assert client.chat(model=MODEL, messages=[], keep_alive=0).done_reason == "unload"


def check_async():
    async def run():
        many = ollama.AsyncClient(host=os.environ["BASE_URL"])
        reply = await many.chat(model=MODEL, messages=user("What is the capital of France? o5"))
        chunks = await many.chat(model=MODEL, messages=user("What is the capital of France? o6"), stream=True)
        return reply.message.content, "".join([chunk.message.content or "" async for chunk in chunks])
    assert asyncio.run(run()) == (PARIS, PARIS)
