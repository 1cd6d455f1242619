"""Google's Gen AI SDK for Python in front of BASE_URL."""
import asyncio
import base64
import json
import os

from google import genai
from google.genai import errors, types
from pydantic import BaseModel

client = genai.Client(api_key="unused", http_options=types.HttpOptions(base_url=os.environ["BASE_URL"], timeout=20_000))
MODEL = "fake-model"
EXPECTED = json.loads(os.environ["EXPECTED"])
PARIS = EXPECTED["text"]
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
CITY = types.Schema(type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)})
TOOLS = [types.Tool(function_declarations=[
    types.FunctionDeclaration(name="get_weather", description="The weather of a city", parameters=CITY),
    types.FunctionDeclaration(name="get_time", parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}}),
])]
# Without it the SDK calls Python functions by itself.
BY_HAND = types.AutomaticFunctionCallingConfig(disable=True)


class Person(BaseModel):
    name: str
    age: int


def ask(contents, **config):
    return client.models.generate_content(model=MODEL, contents=contents, config=types.GenerateContentConfig(**config) if config else None)


def stream(contents, **config):
    return list(client.models.generate_content_stream(model=MODEL, contents=contents, config=types.GenerateContentConfig(**config)))


def calls_in(*replies):
    return [call.args for reply in replies for call in reply.function_calls or []]


def check_generate():
    reply = ask("What is the capital of France? g1")
    usage = reply.usage_metadata
    assert reply.text == PARIS and reply.candidates[0].finish_reason == types.FinishReason.STOP, reply
    assert usage.prompt_token_count > 0 and usage.candidates_token_count > 0 and usage.total_token_count >= usage.candidates_token_count
    assert reply.response_id and reply.model_version


def check_config():
    config = {"system_instruction": "Be brief.", "temperature": 0.2, "top_p": 0.9, "max_output_tokens": 300}
    assert ask("What is the capital of France? g2", **config).text == PARIS


def check_stream_equals_whole():
    chunks = stream("What is the capital of France? g3")
    assert "".join(chunk.text or "" for chunk in chunks) == PARIS and len(chunks) > 1
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP and chunks[-1].usage_metadata.candidates_token_count > 0
    again = ask("What is the capital of France? g3")
    assert again.text == PARIS and again.sdk_http_response.headers["x-weir-source"] == "exact", again.sdk_http_response
    assert again.usage_metadata.candidates_token_count == chunks[-1].usage_metadata.candidates_token_count


def check_tools_and_their_results():
    question = types.Content(role="user", parts=[types.Part.from_text(text="Weather?")])
    first = ask([question], tools=TOOLS, automatic_function_calling=BY_HAND)
    assert calls_in(first) == EXPECTED["calls"], first
    results = [types.Part.from_function_response(name=call.name, response={"result": "21 degrees"}) for call in first.function_calls]
    turns = [question, first.candidates[0].content, types.Content(role="user", parts=results)]
    assert PARIS in ask(turns, tools=TOOLS, automatic_function_calling=BY_HAND).text


def check_tools_stream():
    chunks = stream("Weather, streamed?", tools=TOOLS, automatic_function_calling=BY_HAND)
    assert calls_in(*chunks) == EXPECTED["calls"], chunks


def check_functions_called_by_the_sdk():
    if os.environ["KIND"] != "chat":
        return  # the others call them with more arguments
    asked = []

    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "21 degrees"

    def get_time(city: str) -> str:
        """The time in a city."""
        asked.append(city)
        return "21 degrees"

    assert PARIS in ask("Weather, by itself?", tools=[get_weather, get_time]).text
    assert asked == [call["city"] for call in EXPECTED["calls"]], asked


def check_json_schema():
    reply = ask("Ada?", response_mime_type="application/json", response_schema=Person)
    assert json.loads(reply.text) == EXPECTED["json"], reply
    assert isinstance(reply.parsed, Person) == ("age" in EXPECTED["json"]), reply
    reply = ask("Ada, again?", response_mime_type="application/json", response_json_schema=Person.model_json_schema())
    assert json.loads(reply.text) == EXPECTED["json"]


def check_picture():
    assert ask([types.Part.from_bytes(data=PNG, mime_type="image/png"), "What is in this picture?"]).text


def check_thoughts():
    reply = ask("Do think: what is 2 + 2?", thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=2048))
    parts = reply.candidates[0].content.parts
    assert parts[0].thought and parts[0].text and any(part.text and not part.thought for part in parts), reply


def check_chat():
    chat = client.chats.create(model=MODEL)
    assert chat.send_message("What is the capital of France? g4").text == PARIS
    assert "".join(chunk.text or "" for chunk in chat.send_message_stream("And once more? g5")) == PARIS


def check_error():
    sends = (
        lambda text: client.models.generate_content(model="limited-3", contents=text),
        lambda text: list(client.models.generate_content_stream(model="limited-4", contents=text)),
    )
    for send in sends:
        try:
            send("I am limited.")
        except errors.ClientError as error:
            assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED") and error.message, error
        else:
            raise AssertionError("no error")


def check_count_tokens():
    counted = client.models.count_tokens(model=MODEL, contents="x" * 400).total_tokens
    assert counted == (77 if os.environ["KIND"] == "gemini" else 104), counted


def check_models():
    assert f"models/{MODEL}" in [model.name for model in client.models.list()]
    assert client.models.get(model=MODEL).name == f"models/{MODEL}"
    try:
        client.models.get(model="no-such-model")
    except errors.ClientError as error:
        assert (error.code, error.status) == (404, "NOT_FOUND"), error
    else:
        raise AssertionError("no error")


def check_async():
    async def run():
        reply = await client.aio.models.generate_content(model=MODEL, contents="What is the capital of France? g6")
        chunks = await client.aio.models.generate_content_stream(model=MODEL, contents="What is the capital of France? g7")
        return reply.text, "".join([chunk.text or "" async for chunk in chunks])
    assert asyncio.run(run()) == (PARIS, PARIS)
