"""Measures what else can embed with all-MiniLM-L6-v2: ONNX Runtime and sentence-transformers, on one thread.

    python3 benches/embed/rivals.py --model models/minilm --texts fixtures/sentences/varied.txt --json

Every figure includes tokenising. README.md says what is measured.
"""

import os

# Before anything that starts threads or reads the model hub is imported.
for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON"):
    os.environ[f"{name}_NUM_THREADS"] = "1"
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import argparse
import contextlib
import gc
import json
import logging
import math
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file
from tokenizers import Tokenizer

MAX_PIECES = 256
PIECES = 16
BATCH = 32
ROUNDS = 10
SINGLES = 30
SINGLE_WARM_UP = 10
BATCHES = 5
BATCH_WARM_UP = 1
LEAST_TEXTS = 50
LEAST_COSINE = 0.99999


class Graph:
    """BERT with mean pooling and length one as an ONNX graph, in the shape PyTorch exports it."""

    def __init__(self, folder):
        self.weights = load_file(folder / "model.safetensors")
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if self.config.get("hidden_act") != "gelu":
            sys.exit("only models with the exact GELU are known here")
        self.width = self.config["hidden_size"]
        self.heads = self.config["num_attention_heads"]
        self.nodes = []
        self.constants = {}

    def constant(self, name, value):
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(numpy.ascontiguousarray(value), name)
        return name

    def f32(self, value):
        return self.constant(f"f32_{value}", numpy.array(value, numpy.float32))

    def i64(self, *values):
        return self.constant("i64_" + "_".join(map(str, values)), numpy.array(values, numpy.int64))

    def op(self, kind, *inputs, output=None, **attributes):
        name = f"{kind}_{len(self.nodes)}"
        output = output or name + "_out"
        self.nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    def linear(self, x, name):
        weight = self.constant(name + ".weight", self.weights[name + ".weight"].T)
        bias = self.constant(name + ".bias", self.weights[name + ".bias"])
        return self.op("Add", bias, self.op("MatMul", x, weight))

    def norm(self, x, name):
        scale = self.constant(name + ".weight", self.weights[name + ".weight"])
        bias = self.constant(name + ".bias", self.weights[name + ".bias"])
        epsilon = self.config["layer_norm_eps"]
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def gelu(self, x):
        erf = self.op("Erf", self.op("Div", x, self.f32(math.sqrt(2.0))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.f32(1.0))), self.f32(0.5))

    def per_head(self, x, name, order):
        shape = self.i64(0, 0, self.heads, self.width // self.heads)
        return self.op("Transpose", self.op("Reshape", self.linear(x, name), shape), perm=order)

    def layer(self, x, mask, name):
        query = self.per_head(x, f"{name}.attention.self.query", [0, 2, 1, 3])
        key = self.per_head(x, f"{name}.attention.self.key", [0, 2, 3, 1])
        value = self.per_head(x, f"{name}.attention.self.value", [0, 2, 1, 3])
        scores = self.op("Div", self.op("MatMul", query, key), self.f32(math.sqrt(self.width // self.heads)))
        attention = self.op("Softmax", self.op("Add", scores, mask), axis=-1)
        context = self.op("Transpose", self.op("MatMul", attention, value), perm=[0, 2, 1, 3])
        context = self.op("Reshape", context, self.i64(0, 0, self.width))
        attended = self.op("Add", self.linear(context, f"{name}.attention.output.dense"), x)
        x = self.norm(attended, f"{name}.attention.output.LayerNorm")
        inner = self.gelu(self.linear(x, f"{name}.intermediate.dense"))
        added = self.op("Add", self.linear(inner, f"{name}.output.dense"), x)
        return self.norm(added, f"{name}.output.LayerNorm")

    def build(self):
        # All texts are of type 0, so that row is added to the positions here instead of on every run.
        words = self.constant("words", self.weights["embeddings.word_embeddings.weight"])
        first_type = self.weights["embeddings.token_type_embeddings.weight"][0]
        positions = self.weights["embeddings.position_embeddings.weight"] + first_type
        positions = self.constant("positions", positions)

        length = self.op("Slice", self.op("Shape", "input_ids"), self.i64(1), self.i64(2), self.i64(0))
        place = self.op("Slice", positions, self.i64(0), length, self.i64(0))
        x = self.norm(self.op("Add", self.op("Gather", words, "input_ids"), place), "embeddings.LayerNorm")

        wide = self.op("Unsqueeze", self.op("Unsqueeze", "attention_mask", self.i64(1)), self.i64(2))
        away = self.op("Sub", self.f32(1.0), self.op("Cast", wide, to=TensorProto.FLOAT))
        mask = self.op("Mul", away, self.f32(-10000.0))
        for number in range(self.config["num_hidden_layers"]):
            x = self.layer(x, mask, f"encoder.layer.{number}")

        kept = self.op("Unsqueeze", self.op("Cast", "attention_mask", to=TensorProto.FLOAT), self.i64(2))
        total = self.op("ReduceSum", self.op("Mul", x, kept), self.i64(1), keepdims=0)
        mean = self.op("Div", total, self.op("ReduceSum", kept, self.i64(1), keepdims=0))
        self.op("Div", mean, self.op("ReduceL2", mean, axes=[1], keepdims=1), output="vectors")

        def ids(name):
            return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "pieces"])

        vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", self.width])
        graph = helper.make_graph(
            self.nodes, "minilm", [ids("input_ids"), ids("attention_mask")], [vectors], list(self.constants.values())
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


class Onnx:
    name = "onnxruntime"
    version = onnxruntime.__version__

    def __init__(self, path, tokenizer, precision, graph):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.tokenizer = tokenizer
        self.precision = precision
        self.graph = graph

    def __call__(self, texts):
        found = self.tokenizer.encode_batch(texts) if len(texts) > 1 else [self.tokenizer.encode(texts[0])]
        ids = numpy.array([one.ids for one in found], numpy.int64)
        mask = numpy.array([one.attention_mask for one in found], numpy.int64)
        return self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


class SentenceTransformers:
    name = "sentence-transformers"
    precision = "f32"
    graph = None

    def __init__(self, folder):
        import torch
        import transformers

        try:
            from sentence_transformers import SentenceTransformer
            from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
        except ImportError:
            from sentence_transformers import SentenceTransformer
            from sentence_transformers.models import Normalize, Pooling, Transformer

        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
        transformers.utils.logging.disable_progress_bar()
        self.version = f"{version('sentence-transformers')}, torch {torch.__version__}"
        # From its parts, as a folder with nothing but weights, tokenizer and config has to do.
        reader = Transformer(str(folder), max_seq_length=MAX_PIECES)
        pool = Pooling(json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"])
        self.model = SentenceTransformer(modules=[reader, pool, Normalize()], device="cpu")

    def __call__(self, texts):
        return self.model.encode(texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)


def fuse(plain, fused, heads, width):
    """What ONNX Runtime's own optimiser for transformers makes of the graph: attention as one operator."""
    from onnxruntime.transformers import optimizer

    model = optimizer.optimize_model(str(plain), model_type="bert", num_heads=heads, hidden_size=width, opt_level=0)
    model.save_model_to_file(str(fused))
    return {kind: count for kind, count in model.get_fused_operator_statistics().items() if count}


def quantize(source, target, reduce_range):
    quantize_dynamic(
        str(source),
        str(target),
        per_channel=True,
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": TensorProto.FLOAT},  # behind fused operators no shape is inferred
    )


def rivals(folder, work, tokenizer, reduce_range, notes):
    builder = Graph(folder)
    onnx.save(builder.build(), work / "plain.onnx")
    graphs = ["plain"]
    try:
        notes["fused_operators"] = fuse(work / "plain.onnx", work / "fused.onnx", builder.heads, builder.width)
        graphs.append("fused")
    except Exception as error:
        notes["fused_left_out"] = f"{type(error).__name__}: {error}"
    made = []
    for graph in graphs:
        made.append(Onnx(work / f"{graph}.onnx", tokenizer, "f32", graph))
        quantize(work / f"{graph}.onnx", work / f"{graph}-int8.onnx", reduce_range)
        made.append(Onnx(work / f"{graph}-int8.onnx", tokenizer, "int8", graph))
    try:
        made.append(SentenceTransformers(folder))
    except ImportError as error:
        notes["sentence_transformers_left_out"] = f"not measured, it cannot be imported: {error}"
    return made


def choose(texts, tokenizer):
    """Those of PIECES pieces; if there are too few, those nearest to it as well."""
    lengths = [(abs(len(one.ids) - PIECES), n) for n, one in enumerate(map(tokenizer.encode, texts))]
    exact = sum(1 for away, _ in lengths if away == 0)
    chosen = sorted(lengths)[: max(exact, LEAST_TEXTS)]
    return [texts[n] for _, n in chosen], exact


def timed(work, argument):
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    work(argument)
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    return cpu, wall


def measure(made, texts):
    """Single texts and batches, in rounds that take turns, so that a slow minute of the machine hits all alike."""
    singles = [[] for _ in made]
    batches = [[] for _ in made]
    gc.collect()
    gc.disable()
    for turn in range(ROUNDS):
        for rival, single, batch in zip(made, singles, batches):
            for n in range(SINGLE_WARM_UP + SINGLES):
                took = timed(rival, [texts[(turn * SINGLES + n) % len(texts)]])
                if n >= SINGLE_WARM_UP:
                    single.append(took)
            for n in range(BATCH_WARM_UP + BATCHES):
                start = (turn * BATCHES + n) * BATCH
                took = timed(rival, [texts[(start + i) % len(texts)] for i in range(BATCH)])
                if n >= BATCH_WARM_UP:
                    batch.append(took)
    gc.enable()
    return singles, batches


def vectors(rival, texts):
    return numpy.concatenate([rival([text]) for text in texts]).astype(numpy.float64)


def nearest(vectors):
    near = vectors @ vectors.T
    numpy.fill_diagonal(near, -2.0)
    return near.argmax(1)


def agreement(own, reference):
    cosine = (own * reference).sum(1) / numpy.linalg.norm(own, axis=1) / numpy.linalg.norm(reference, axis=1)
    same = float((nearest(own) == nearest(reference)).mean())
    return {"cosine_min": float(cosine.min()), "cosine_mean": float(cosine.mean()), "same_nearest": same}


def p50(nanoseconds):
    return statistics.median(nanoseconds)


def processor():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def instructions():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
                return [flag for flag in wanted if flag in line.split()]
    return []


def run(arguments):
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_PIECES)
    texts = [line for line in arguments.texts.read_text(encoding="utf-8").split("\n") if line.strip()]
    chosen, exact = choose(texts, tokenizer)
    if len(texts) < LEAST_TEXTS:
        sys.exit(f"at least {LEAST_TEXTS} texts are needed")
    tokenizer.enable_padding()  # to the longest of a batch

    notes = {}
    with tempfile.TemporaryDirectory() as work:
        made = rivals(arguments.model, Path(work), tokenizer, arguments.reduce_range, notes)
    singles, batches = measure(made, chosen)

    reference = vectors(made[0], texts)
    rows = []
    for rival, single, batch in zip(made, singles, batches):
        row = {"name": rival.name, "version": rival.version, "precision": rival.precision, "graph": rival.graph}
        row["single_cpu_ms_p50"] = round(p50([cpu for cpu, _ in single]) / 1e6, 3)
        row["single_wall_ms_p50"] = round(p50([wall for _, wall in single]) / 1e6, 3)
        row["batch_texts_per_s"] = round(BATCH / (p50([cpu for cpu, _ in batch]) / 1e9), 1)
        same = agreement(reference if rival is made[0] else vectors(rival, texts), reference)
        row |= {key: round(value, 6) for key, value in same.items()}
        if rival.precision == "f32" and same["cosine_min"] <= LEAST_COSINE:
            sys.exit(f"{rival.name} ({rival.graph}) does not compute the same: cosine {same['cosine_min']}")
        rows.append(row)
    return {
        "threads": 1,
        "processor": processor(),
        "instructions": instructions(),
        "python": platform.python_version(),
        "single": f"{ROUNDS * SINGLES} runs of one text of {PIECES} pieces, in {ROUNDS} rounds, tokenising included",
        "batch": f"{ROUNDS * BATCHES} runs of {BATCH} texts of {PIECES} pieces; texts a second of CPU time of one core",
        "agreement": "with the first row, over all texts, one at a time",
        "texts": len(texts),
        "texts_timed": len(chosen),
        "texts_timed_of_exact_length": exact,
        "reduce_range": arguments.reduce_range,
        **notes,
        "rows": rows,
    }


def table(result):
    print(f"{result['processor']}, one thread; {result['texts_timed']} texts of {PIECES} pieces, tokenising included")
    print("| | single, CPU ms | single, wall ms | batch, texts/s | cosine min | cosine mean | same nearest |")
    print("|---|---|---|---|---|---|---|")
    for row in result["rows"]:
        what = f"{row['name']} {row['version']}, {row['precision']}" + (f", {row['graph']}" if row["graph"] else "")
        print(
            f"| {what} | {row['single_cpu_ms_p50']} | {row['single_wall_ms_p50']} | {row['batch_texts_per_s']}"
            f" | {row['cosine_min']} | {row['cosine_mean']} | {row['same_nearest']} |"
        )
    for key in ("fused_left_out", "sentence_transformers_left_out"):
        if key in result:
            print(f"{key}: {result[key]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of weights, tokenizer.json, config.json")
    parser.add_argument("--texts", type=Path, required=True, help="texts, one a line")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--reduce-range", action="store_true", help="7-bit weights, for processors without VNNI")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(sys.stderr):  # libraries print; stdout is for the result
        result = run(arguments)
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        table(result)


if __name__ == "__main__":
    main()
