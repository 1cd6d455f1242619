"""Tiny models of each family, as llama.cpp reads them: what fixtures/local/families.json and sentences.json hold.

    python3 -m venv target/bench/venv && target/bench/venv/bin/pip install -r benches/local/requirements.txt
    target/bench/venv/bin/python benches/local/families.py fixtures/local

The weights are made by the same formula as in `src/upstream/local/engine/tiny.rs`, the vocabulary is written into the
fixture; so the tests make the same models, and hold the engine to what llama.cpp expected after the same tokens.
"""

import importlib.metadata
import json
import pathlib
import sys
import tempfile
import urllib.request

import gguf
import numpy as np
import xllamacpp

WIDTH, HIDDEN, SIZE = 64, 96, 32
NORMAL, UNKNOWN, CONTROL, MARKER, BYTE = 1, 2, 3, 4, 6
FAMILIES = {"llama": 2, "qwen2": 2, "qwen3": 2, "gemma3": 6, "phi3": 2}
WINDOW = 8

WORDS = (
    "▁t he ▁the in ing ▁a an er on re ▁s st ▁st ll ello ▁w or ld orld ▁world ▁world s ▁h ▁hello en ▁in ▁an ▁and nd "
    "at ▁th ▁that ▁2 02 6 26 ▁202 ca fé ▁café ▁▁ ▁▁▁▁ \t \n 。 , ! ? . ( ) ; : ' - _ é 你 好 你好 世 世界 👋"
).split(" ")

TEXTS = [
    "Hello, world! It's 2026-11-26.",
    "hello hello  the   worlds and that     thing",
    " leading and trailing  ",
    "a\n\n  b\n\n\n \n\tc   d  ",
    "the café 你好,世界! 123 naïve",
    "👋🏽 emoji 👨‍👩‍👧!!!\n",
    "",
    " ",
    "  ",
    "▁the ▁",
    "<table><tr>x</table>",
    "<|user|>\nhello<|end|>\n<|assistant|>\n",
    "</s>\n the x",
    "<s",
    "anand inging ononon stst rerere",
]


def vocabulary():
    tokens = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    tokens += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    tokens += [(text, -1000.0, CONTROL) for text in ("<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>")]
    tokens += [(text, -1000.0, MARKER) for text in ("\n\n", "\n\n\n", "<table>", "</table>", "<tr>")]
    letters = [chr(code) for code in range(33, 127)] + ["▁"]
    known = {text for text, _, _ in tokens}
    for at, text in enumerate(dict.fromkeys(WORDS + letters)):
        if text and text not in known:
            tokens.append((text, -float(at + 1), NORMAL))
    while len(tokens) % 16:
        tokens.append((f"[unused{len(tokens)}]", -9999.0, NORMAL))
    return tokens


def numbers(seed, shape, spread, middle):
    at = np.arange(int(np.prod(shape)), dtype=np.uint64)
    with np.errstate(over="ignore"):
        mixed = (at * np.uint64(2654435761) + np.uint64(seed * 40503)) * np.uint64(2246822519)
    mixed = (mixed >> np.uint64(7)) & np.uint64(0xFFFF)
    one = np.float32(1.0)
    values = np.float32(middle) + np.float32(spread) * (mixed.astype(np.float32) / np.float32(32768.0) - one)
    return values.astype(np.float32).reshape(shape)


def write(path, family, tokens, name="Tiny", space_first=None):
    layers = FAMILIES[family]
    writer = gguf.GGUFWriter(path, family)
    writer.add_name(name)
    writer.add_block_count(layers)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(WIDTH // SIZE)
    writer.add_head_count_kv(1)
    writer.add_key_length(SIZE)
    writer.add_value_length(SIZE)
    writer.add_context_length(4096)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    if family == "gemma3":
        writer.add_sliding_window(WINDOW)
        writer.add_rope_freq_base(1_000_000.0)
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(8.0)
    if family == "phi3":
        writer.add_rope_dimension_count(24)
        writer.add_rope_scaling_attn_factors(1.25)
        writer.add_rope_scaling_orig_ctx_len(4096)
        writer.add_sliding_window(0)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    if space_first is not None:
        writer.add_add_space_prefix(space_first)

    def matrix(name, seed, outputs, inputs, spread=0.2):
        writer.add_tensor(name, numbers(seed, (outputs, inputs), spread, 0.0))

    def vector(name, seed, length, middle, spread=0.1):
        writer.add_tensor(name, numbers(seed, (length,), spread, middle))

    matrix("token_embd.weight", 1, len(tokens), WIDTH, 1.0)
    vector("output_norm.weight", 3, WIDTH, 1.0)
    if family != "gemma3":
        matrix("output.weight", 2, len(tokens), WIDTH)
    if family == "phi3":
        vector("rope_factors_short.weight", 4, 12, 1.5, 0.4)
        vector("rope_factors_long.weight", 5, 12, 3.0, 0.4)
    for layer in range(layers):
        seed, blk = 100 * (layer + 1), f"blk.{layer}."
        vector(blk + "attn_norm.weight", seed, WIDTH, 1.0)
        vector(blk + "ffn_norm.weight", seed + 1, WIDTH, 1.0)
        matrix(blk + "attn_output.weight", seed + 2, WIDTH, WIDTH)
        matrix(blk + "ffn_down.weight", seed + 3, WIDTH, HIDDEN)
        if family == "phi3":
            matrix(blk + "attn_qkv.weight", seed + 4, WIDTH + 2 * SIZE, WIDTH)
            matrix(blk + "ffn_up.weight", seed + 5, 2 * HIDDEN, WIDTH)
            continue
        for at, (part, outputs) in enumerate([("q", WIDTH), ("k", SIZE), ("v", SIZE)]):
            matrix(f"{blk}attn_{part}.weight", seed + 6 + at, outputs, WIDTH)
            if family == "qwen2":
                vector(f"{blk}attn_{part}.bias", seed + 9 + at, outputs, 0.0)
            if family in ("qwen3", "gemma3") and part != "v":
                vector(f"{blk}attn_{part}_norm.weight", seed + 9 + at, SIZE, 1.0)
        matrix(blk + "ffn_gate.weight", seed + 12, HIDDEN, WIDTH)
        matrix(blk + "ffn_up.weight", seed + 13, HIDDEN, WIDTH)
        if family == "gemma3":
            vector(blk + "post_attention_norm.weight", seed + 14, WIDTH, 1.0)
            vector(blk + "post_ffw_norm.weight", seed + 15, WIDTH, 1.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def server(path):
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 512
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    return xllamacpp.Server(params)


def post(server, path, body):
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def main():
    folder = pathlib.Path(sys.argv[1])
    tokens = vocabulary()
    ids = [(at * 7 + 3) % len(tokens) for at in range(40)]
    made_by = f"benches/local/families.py, llama.cpp (PyPI xllamacpp {importlib.metadata.version('xllamacpp')})"
    expected, ways = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for family in FAMILIES:
            path = pathlib.Path(scratch) / f"{family}.gguf"
            write(path, family, tokens)
            running = server(path)
            body = {"prompt": ids, "n_predict": 1, "n_probs": len(tokens), "temperature": 1.0, "cache_prompt": False}
            # Whatever is drawn must be text; the likelihoods are those before.
            body["logit_bias"] = [[len(tokens) - 1, 1000.0]]
            told = post(running, "/completion", body)["completion_probabilities"][0]["top_logprobs"]
            of = {entry["id"]: round(entry["logprob"], 5) for entry in told}
            assert len(of) == len(tokens), (family, len(of))
            expected[family] = [of[id] for id in range(len(tokens))]
            del running
        for way, name, space_first in [("llama", "Tiny", None), ("gemma", "Tiny", False), ("phi", "Phi-3 tiny", None)]:
            path = pathlib.Path(scratch) / f"{way}.gguf"
            write(path, "llama", tokens, name, space_first)
            running = server(path)
            ways[way] = {
                kind: [
                    post(running, "/tokenize", {"content": text, "add_special": True, "parse_special": special})["tokens"]
                    for text in TEXTS
                ]
                for kind, special in (("said", False), ("template", True))
            }
            del running
    families = {"made_by": made_by, "ids": ids, "expected": expected}
    (folder / "families.json").write_text(json.dumps(families) + "\n")
    texts, scores, types = zip(*tokens)
    sentences = {"made_by": made_by, "tokens": texts, "scores": scores, "types": types, "texts": TEXTS, "ways": ways}
    (folder / "sentences.json").write_text(json.dumps(sentences, ensure_ascii=False, indent=1) + "\n")


main()
