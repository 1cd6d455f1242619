"""llama.cpp on the same GGUF file, on one thread: tokens per CPU second, and time to the first token.

    python3 -m venv target/bench/venv && target/bench/venv/bin/pip install -r benches/local/requirements.txt
    target/bench/venv/bin/python benches/local/rivals.py models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf

With --fixtures FILE it also writes greedy answers with their token ids, as llama.cpp gives them.
"""

import argparse
import json
import statistics
import time
import urllib.request

import xllamacpp

PROMPT_TOKENS = 512
GENERATED = 128
QUESTIONS = [
    "What is 2+2?",
    "Say the days of the week.",
    "Translate 'good morning' to French.",
    "What is the capital of France?",
    "Who wrote Hamlet?",
    "Name three colours.",
    "What is the boiling point of water?",
    "Write one sentence about rivers.",
    "What is a prime number?",
    "Why is the sky blue?",
    "Explain gravity to a child.",
    "List five animals.",
    "What does a cache do?",
    "How do I boil an egg?",
    "Give me a name for a cat.",
    "What is the opposite of hot?",
    "Count from one to ten.",
    "Write a haiku about snow.",
    "What language is spoken in Brazil?",
    "Tell me a short story about a dog.",
]


def server(model):
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 4096
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.cache_ram_mib = 0
    params.warmup = True
    return xllamacpp.Server(params)


def ask(server, prompt, predict, cached=False):
    request = {
        "prompt": prompt,
        "n_predict": predict,
        "temperature": 0,
        "top_k": 1,
        "cache_prompt": cached,
        "return_tokens": True,
        "stream": False,
    }
    return post(server, "/completion", request)


def post(server, path, request):
    body = urllib.request.Request(
        server.listening_address + path,
        json.dumps(request).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(body) as reply:
        return json.load(reply)


def chat(question):
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    return (
        f"<|im_start|>system\n{system}<|im_end|>\n"
        f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    )


def cpu_seconds(work):
    """The least of three runs: what else runs on the machine only adds."""
    best = None
    for _ in range(3):
        began = time.process_time()
        work()
        spent = time.process_time() - began
        best = spent if best is None else min(best, spent)
    return best


def measure(llama):
    prompt = [504 + at % 97 for at in range(PROMPT_TOKENS)]
    read = cpu_seconds(lambda: ask(llama, prompt, 1))
    start = chat("Tell me a long story about a river.")
    short, long = (cpu_seconds(lambda n=n: ask(llama, start, n)) for n in (1, GENERATED + 1))
    first = []
    for at in range(9):
        began = time.perf_counter()
        ask(llama, [504 + (at * 31 + token) % 97 for token in range(40)], 1)
        first.append(1000 * (time.perf_counter() - began))
    system = [504 + at % 97 for at in range(500)]
    again = []
    for at in range(9):
        began = time.perf_counter()
        ask(llama, system + [700 + at, 701, 702, 703, 704, 705, 706, 707], 1, cached=True)
        again.append(1000 * (time.perf_counter() - began))
    return {
        "prompt_tokens_per_cpu_second": PROMPT_TOKENS / read,
        "generated_tokens_per_cpu_second": GENERATED / (long - short),
        "first_token_of_40_ms": statistics.median(first),
        "first_token_after_500_known_ms": statistics.median(again[1:]),
    }


def answers(llama):
    for question in QUESTIONS:
        reply = ask(llama, chat(question), 48)
        prompt = post(llama, "/tokenize", {"content": chat(question), "parse_special": True})["tokens"]
        yield {"question": question, "prompt": prompt, "ids": reply["tokens"], "answer": reply["content"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--fixtures")
    arguments = parser.parse_args()
    llama = server(arguments.model)
    if arguments.fixtures:
        with open(arguments.fixtures, "w") as file:
            json.dump({"answers": list(answers(llama))}, file, indent=1)
    print(json.dumps({"engine": "llama.cpp", "xllamacpp": xllamacpp.__version__, **measure(llama)}))


if __name__ == "__main__":
    main()
