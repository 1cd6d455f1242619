"""The SDKs for Python in front of a sidecar that nobody stands behind: no provider, no key, only the local model."""
import json
import os

import anthropic
import ollama
import openai
from google import genai
from google.genai import types

BASE = os.environ["BASE_URL"]
MODEL = "local/smollm2-135m-instruct"
# A request for a model of a provider that is not there is answered by the local one, too.
ANOTHER = "gpt-4o-mini"
openais = openai.OpenAI(base_url=f"{BASE}/v1", api_key="unused", max_retries=0, timeout=60)
anthropics = anthropic.Anthropic(base_url=BASE, api_key="unused", max_retries=0, timeout=60)
googles = genai.Client(api_key="unused", http_options=types.HttpOptions(base_url=BASE, timeout=60_000))
ollamas = ollama.Client(host=BASE, timeout=60)
PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
WEATHER = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}


def talk(client, turns):
    """A conversation in which each answer is part of what is asked next."""
    messages, said = [], []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        said.append(client(messages))
        messages.append({"role": "assistant", "content": said[-1]})
    return said


TURNS = ["I have a dog called Rex.", "What is my dog called?", "Say hello to it."]


def chat(messages, **more):
    return openais.chat.completions.create(**{"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 30, **more})


def user(text):
    return [{"role": "user", "content": text}]


def check_openai_conversation():
    def one(messages):
        reply = chat(messages)
        assert reply.choices[0].finish_reason in ("stop", "length") and reply.model.endswith("smollm2-135m-instruct"), reply
        usage = reply.usage
        assert usage.prompt_tokens > 0 and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
        return reply.choices[0].message.content

    said = talk(one, TURNS)
    assert "Rex" in said[1] and all(text.strip() for text in said), said


def check_openai_stream_equals_whole():
    asked = user("Name three colours.")
    chunks = list(chat(asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    whole = chat(asked)
    assert text == whole.choices[0].message.content and chunks[-1].usage == whole.usage, (text, whole)


def check_openai_asked_for_another_model():
    reply = openais.chat.completions.with_raw_response.create(model=ANOTHER, messages=user("Say hello."), max_tokens=8)
    assert reply.headers["x-weir-source"] == "local" and reply.parse().choices[0].message.content.strip(), reply.headers


def check_openai_limits_and_stops():
    asked = user("Count from one to one hundred in words.")
    assert chat(asked, max_tokens=5).choices[0].finish_reason == "length"
    stopped = chat(user("Say hello."), stop=["o"]).choices[0]
    assert stopped.finish_reason == "stop" and "o" not in stopped.message.content, stopped


def check_openai_logprobs():
    choice = chat(user("Say hello."), logprobs=True, top_logprobs=3, max_tokens=4).choices[0]
    assert len(choice.logprobs.content) > 0 and all(len(token.top_logprobs) == 3 for token in choice.logprobs.content)
    assert "".join(token.token for token in choice.logprobs.content).startswith(choice.message.content[:3])


def check_openai_schema():
    form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    told = json.loads(chat(user("Ada is 36."), response_format=form).choices[0].message.content)
    assert set(told) == {"name", "age"} and isinstance(told["age"], int), told


def check_openai_tool_that_must_be_called():
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
    choice = chat(user("Weather in Paris?"), tools=tools, tool_choice="required").choices[0]
    assert choice.finish_reason == "tool_calls" and json.loads(choice.message.tool_calls[0].function.arguments)["city"], choice


def check_openai_responses():
    reply = openais.responses.create(model=MODEL, input="Name a fruit.", instructions="You are brief.", max_output_tokens=20)
    assert reply.output_text.strip() and reply.usage.output_tokens > 0 and reply.status in ("completed", "incomplete"), reply


def check_openai_says_what_it_cannot():
    try:
        chat(user("Hello"), n=2)
    except openai.BadRequestError as error:
        assert "`n`" in str(error), error
    else:
        raise AssertionError("two answers")


def check_openai_models():
    assert MODEL in [model.id for model in openais.models.list()]


# The SDK has no word for it any more.
GREEDY = {"temperature": 0}


def message(messages, **more):
    return anthropics.messages.create(**{"model": MODEL, "max_tokens": 30, "messages": messages, "extra_body": GREEDY, **more})


def check_anthropic_conversation():
    def one(messages):
        reply = message(messages)
        assert reply.stop_reason in ("end_turn", "max_tokens") and reply.usage.input_tokens > 0 and reply.usage.output_tokens > 0
        return reply.content[0].text

    said = talk(one, TURNS)
    assert "Rex" in said[1] and all(text.strip() for text in said), said


def check_anthropic_stream_equals_whole():
    asked = user("Name three animals.")
    with anthropics.messages.stream(model=MODEL, max_tokens=30, messages=asked, extra_body=GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    whole = message(asked)
    assert text == whole.content[0].text and final.usage.output_tokens == whole.usage.output_tokens, (text, whole)


def check_anthropic_stop_and_tool():
    stopped = message(user("Say hello."), stop_sequences=["o"])
    assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == "o", stopped
    tools = [{"name": "get_weather", "input_schema": WEATHER}]
    called = message(user("Weather in Paris?"), tools=tools, tool_choice={"type": "tool", "name": "get_weather"})
    assert called.stop_reason == "tool_use" and called.content[0].input["city"], called


def check_gemini_conversation():
    talking = googles.chats.create(model=MODEL, config=types.GenerateContentConfig(temperature=0, max_output_tokens=30))
    said = [talking.send_message(turn).text for turn in TURNS[:2]]
    assert "Rex" in said[1], said
    told = googles.models.generate_content(model=MODEL, contents="Ada is 36.", config=types.GenerateContentConfig(
        temperature=0, response_mime_type="application/json", response_json_schema=PERSON))
    assert set(json.loads(told.text)) == {"name", "age"} and told.usage_metadata.candidates_token_count > 0, told


def check_ollama_conversation():
    def one(messages):
        return ollamas.chat(model=MODEL, messages=messages, options={"temperature": 0, "num_predict": 30}).message.content

    said = talk(one, TURNS[:2])
    assert "Rex" in said[1], said
    chunks = list(ollamas.chat(model=MODEL, messages=user("Say hello."), stream=True, options={"num_predict": 10}))
    assert chunks[-1].done and chunks[-1].eval_count > 0 and "".join(chunk.message.content for chunk in chunks).strip()
    assert set(json.loads(ollamas.chat(model=MODEL, messages=user("Ada is 36."), format=PERSON).message.content)) == {"name", "age"}
