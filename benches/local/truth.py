"""What SmolLM2 expects in plain f32, along the greedy answers of llama.cpp, and how far llama.cpp is from it.

    target/bench/venv/bin/python benches/local/truth.py models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf

Reads the weights to f32, multiplies them with f32 and rounds nothing, as simply as it can be written down: no cache,
the whole text at once. Writes fixtures/local/f32.json, which the tests hold the engine to.
"""

import json
import sys

import numpy as np
import rivals
from gguf import GGUFReader, dequantize

FIXTURES = "fixtures/local/"
LIKELIEST = 8


class Model:
    def __init__(self, path):
        reader = GGUFReader(path)
        fact = lambda name: reader.fields[f"llama.{name}"].contents()
        self.layers = fact("block_count")
        self.heads, self.kv_heads = fact("attention.head_count"), fact("attention.head_count_kv")
        self.size = fact("embedding_length") // self.heads
        self.epsilon, self.base = fact("attention.layer_norm_rms_epsilon"), fact("rope.freq_base")
        self.weights = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}

    def norm(self, x, name):
        square = (x.astype(np.float64) ** 2).mean(-1, keepdims=True)
        return (x / np.sqrt(square + self.epsilon)).astype(np.float32) * self.weights[f"{name}.weight"]

    def times(self, x, name):
        return x @ self.weights[f"{name}.weight"].T

    def rotated(self, x):
        speed = self.base ** (-np.arange(0, self.size, 2) / self.size)
        angle = (np.arange(len(x))[:, None] * speed)[:, None]
        sine, cosine = np.sin(angle).astype(np.float32), np.cos(angle).astype(np.float32)
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).reshape(x.shape)

    def attended(self, x, layer):
        split = lambda name, heads: self.times(x, f"blk.{layer}.attn_{name}").reshape(len(x), heads, self.size)
        queries = self.rotated(split("q", self.heads))
        shared = self.heads // self.kv_heads
        keys = np.repeat(self.rotated(split("k", self.kv_heads)), shared, 1)
        values = np.repeat(split("v", self.kv_heads), shared, 1)
        later = np.triu(np.full((len(x), len(x)), -np.inf, np.float32), 1)
        scores = np.einsum("ihd,jhd->hij", queries, keys) / np.float32(self.size**0.5) + later
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return np.einsum("hij,jhd->ihd", shares, values).reshape(len(x), -1)

    def logits(self, ids):
        x = self.weights["token_embd.weight"][ids]
        for layer in range(self.layers):
            part = f"blk.{layer}."
            x = x + self.times(self.attended(self.norm(x, part + "attn_norm"), layer), part + "attn_output")
            normal = self.norm(x, part + "ffn_norm")
            gate = self.times(normal, part + "ffn_gate")
            open = gate / (1 + np.exp(-gate)) * self.times(normal, part + "ffn_up")
            x = x + self.times(open, part + "ffn_down")
        return self.times(self.norm(x, "output_norm"), "token_embd")


def by_llama(llama, written):
    """The logarithms of llama.cpp's likelihoods, of its 64 likeliest tokens at each place."""
    request = {"prompt": written["prompt"], "n_predict": 48, "temperature": 0, "top_k": 1, "cache_prompt": False}
    told = rivals.post(llama, "/completion", request | {"return_tokens": True, "n_probs": 64, "stream": False})
    assert told["tokens"][: len(written["ids"])] == written["ids"], written["question"]
    return [{t["id"]: t["logprob"] for t in place["top_logprobs"]} for place in told["completion_probabilities"]]


def off(ours, theirs):
    """How far apart the two are, whatever is added to all of either."""
    difference = np.array(ours, np.float64) - np.array(theirs, np.float64)
    return difference - difference.mean()


def main():
    path = sys.argv[1]
    model, llama = Model(path), rivals.server(path)
    answers, errors, same, tokens = [], [], 0, 0
    for written in json.load(open(FIXTURES + "greedy_ids.json"))["answers"]:
        expected = model.logits(written["prompt"] + written["ids"])[len(written["prompt"]) - 1 : -1]
        places = []
        for logits, id, likelihoods in zip(expected, written["ids"], by_llama(llama, written)):
            likeliest = np.argsort(-logits, kind="stable")[:LIKELIEST]
            below = [round(float(logits[likeliest[0]] - logits[other]), 3) for other in likeliest]
            places.append({"ids": likeliest.tolist(), "below": below})
            known = [int(other) for other in likeliest if int(other) in likelihoods]
            errors.extend(off([likelihoods[other] for other in known], [logits[other] for other in known]))
            same, tokens = same + (likeliest[0] == id), tokens + 1
        answers.append({"question": written["question"], "places": places})
    spread = float(np.sqrt(np.mean(np.square(errors))))
    made_by = (
        "benches/local/truth.py from SmolLM2-135M-Instruct.Q4_1.gguf (Apache-2.0): at each place of the answers in "
        "greedy_ids.json the eight likeliest tokens in plain f32, and how many logits they are below the first. "
        "`llama_cpp`: how often its likeliest is that of f32, and how far from f32 the eight are (root mean square, "
        "their mean apart)."
    )
    print(spread, same, tokens)
    with open(FIXTURES + "f32.json", "w") as file:
        head = {"made_by": made_by, "llama_cpp": {"same": int(same), "of": tokens, "off": round(spread, 4)}}
        file.write(json.dumps(head)[:-1] + ', "answers": [\n')
        file.write(",\n".join(json.dumps(answer, separators=(",", ":")) for answer in answers) + "\n]}\n")


if __name__ == "__main__":
    main()
