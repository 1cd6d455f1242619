"""Measures on an NVIDIA card what else can run our models there: transformers for the local model, sentence-transformers
for the encoder; and how fast the card copies, which is what writing tokens is bound by.

    python3 benches/card.py --models models --texts fixtures/sentences/varied.txt

Needs torch, transformers with gguf, and sentence-transformers. Prints a line of JSON for each figure.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch

PROMPT = 512
WRITTEN = 128
ROUNDS = 3
PIECES = 16


def timed(work):
    """The best of some rounds, in seconds."""
    times = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times)


def say(what, value, unit):
    print(json.dumps({"what": what, "value": round(value, 2), "unit": unit}), flush=True)


def copies():
    numbers = torch.empty(1 << 31, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(numbers)
    seconds = timed(lambda: other.copy_(numbers))
    say("copying, read and written", 2 * numbers.numel() / seconds / 1e12, "TB/s")


def local(folder, kinds):
    from transformers import AutoModelForCausalLM

    file = next(folder.glob("*.gguf"))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float16).cuda().eval()
    prompt = torch.tensor([[504 + at % 97 for at in range(PROMPT)]], device="cuda")
    with torch.inference_mode():
        model(prompt)
        say("transformers, f16, prompt of 512", PROMPT / timed(lambda: model(prompt, logits_to_keep=1)), "tokens/s")
        for kind in kinds:
            for count in (1, 16):
                ids = prompt[:, :32].repeat(count, 1)

                def write(tokens=WRITTEN):
                    model.generate(
                        ids, attention_mask=torch.ones_like(ids), min_new_tokens=tokens, max_new_tokens=tokens,
                        do_sample=False, cache_implementation=kind, pad_token_id=0,
                    )

                write()
                write()
                name = f"transformers, f16, {kind or 'its usual'} cache, {count} written together"
                say(name, WRITTEN * count / timed(write), "tokens/s")


def encoder(folder, texts):
    from sentence_transformers import SentenceTransformer, models

    words = models.Transformer(str(folder), max_seq_length=256)
    pooling = models.Pooling(words.get_word_embedding_dimension())
    model = SentenceTransformer(modules=[words, pooling, models.Normalize()], device="cuda").half()
    texts = [text for text in texts if len(words.tokenizer(text)["input_ids"]) == PIECES]
    one = []
    for text in texts * 4:
        began = time.perf_counter()
        model.encode([text], show_progress_bar=False)
        one.append(time.perf_counter() - began)
    say("sentence-transformers, f16, one text of 16 pieces, p50", statistics.median(one[20:]) * 1e3, "ms")
    for batch in (32, 256, 1024):
        many = (texts * (4 * batch // len(texts) + 1))[: 4 * batch]
        seconds = timed(lambda: model.encode(many, batch_size=batch, show_progress_bar=False))
        say(f"sentence-transformers, f16, batches of {batch}", len(many) / seconds, "texts/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--texts", type=Path, default=Path("fixtures/sentences/varied.txt"))
    parser.add_argument("--static", action="store_true", help="also with a static cache, which is compiled first")
    args = parser.parse_args()
    copies()
    encoder(args.models / "minilm", [line for line in args.texts.read_text().splitlines() if line.strip()])
    local(args.models / "smollm2-135m-instruct", [None, "static"] if args.static else [None])


if __name__ == "__main__":
    main()
