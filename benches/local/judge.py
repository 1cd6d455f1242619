"""Whether a local model can tell pairs that have the same answer from pairs that do not: the area under the curve
(0.5 is chance) of how much likelier it says Yes than No, beside that of the similarity of the encoder's vectors.

    target/bench/venv/bin/python benches/local/judge.py MODEL.gguf fixtures/decisions/pairs_fow.jsonl target/release/weir

llama.cpp runs the model, on one thread, with the weights and the template of the file.
"""

import json
import math
import subprocess
import sys
import urllib.request

import xllamacpp

ASKED = "Do these two questions have the same answer? Reply with Yes or No.\n\n1. {a}\n2. {b}"


def server(model):
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 1024
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(params)


def lean(running, text):
    body = {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 200,
    }
    request = urllib.request.Request(running.listening_address + "/v1/chat/completions", json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=120) as response:
        told = json.load(response)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    share = {"yes": 1e-9, "no": 1e-9}
    for entry in told:
        word = entry["token"].strip().lower()
        if word in share:
            share[word] += math.exp(entry["logprob"])
    return math.log(share["yes"] / share["no"])


def area(scores, same):
    ones = [score for score, label in zip(scores, same) if label]
    others = [score for score, label in zip(scores, same) if not label]
    wins = sum((a > b) + 0.5 * (a == b) for a in ones for b in others)
    return wins / (len(ones) * len(others))


def main():
    model, file, weir = sys.argv[1:4]
    with open(file) as lines:
        pairs = [json.loads(line) for line in lines]
    pairs = [pair for pair in pairs if not pair.get("ambiguous")]
    same = [pair["same_answer"] for pair in pairs]
    print(f"{len(pairs)} pairs, {sum(same)} of them the same")
    texts = "\n".join(text.replace("\n", " ") for pair in pairs for text in (pair["a"], pair["b"]))
    told = subprocess.run([weir, "--models-dir", "models", "embed"], input=texts, capture_output=True, text=True, check=True)
    vectors = [json.loads(line)["vector"] for line in told.stdout.splitlines()]
    cosines = [sum(x * y for x, y in zip(a, b)) for a, b in zip(vectors[::2], vectors[1::2])]
    print(f"similarity of vectors: {area(cosines, same):.3f}")
    running = server(model)
    leans = [lean(running, ASKED.format(a=pair["a"], b=pair["b"])) for pair in pairs]
    best = max(sum((lean > bound) == label for lean, label in zip(leans, same)) / len(same) for bound in leans)
    print(f"the model: {area(leans, same):.3f}, at best {best:.1%} right")


main()
