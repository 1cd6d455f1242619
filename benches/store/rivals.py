"""usearch on vectors such as `weir bench store` makes: in clusters of 200, dimension 384.

    target/bench/venv/bin/python benches/store/rivals.py 1000 10000 100000

One line of JSON for each size. One thread, as the store has one for its graphs; searches one at a time. `right` is
the share of searches that named the very nearest by cosine in f32.
"""

import json
import resource
import sys
import time

import numpy as np
from usearch.index import Index

DIMENSIONS, CLUSTER, SPREAD, REWORDED, SEARCHES = 384, 200, 0.8, 0.45, 300
# Links, and candidates on insertion and search: usearch's own defaults, and the width that large graphs need.
LINKS, ADD = 16, 128


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def any_direction(random, count):
    return unit(random.standard_normal((count, DIMENSIONS), dtype=np.float32))


def near(random, middles, spread):
    return unit(middles + spread * any_direction(random, len(middles)))


def measured(count):
    random = np.random.default_rng(7)
    middles = any_direction(random, max(8, count // CLUSTER))
    vectors = near(random, middles[random.integers(0, len(middles), count)], SPREAD)
    queries = near(random, vectors[random.integers(0, count, SEARCHES)], REWORDED)
    truth = np.concatenate([np.argmax(part @ vectors.T, axis=1) for part in np.array_split(queries, 30)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    index = Index(ndim=DIMENSIONS, metric="cos", dtype="i8", connectivity=LINKS, expansion_add=ADD)
    cpu, began = time.process_time(), time.perf_counter()
    index.add(np.arange(count), vectors, threads=1)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    for width in (64, 96, 128):
        index.expansion_search = width
        times, right = [], 0
        for query, nearest in zip(queries, truth):
            began = time.perf_counter()
            found = index.search(query, 1, threads=1)
            times.append(time.perf_counter() - began)
            right += int(found.keys[0] == nearest)
        times.sort()
        print(json.dumps({
            "entries": count,
            "width": width,
            "inserts_per_second": round(count / wall),
            "inserts_per_cpu_second": round(count / cpu),
            "p50_ms": round(times[len(times) // 2] * 1e3, 4),
            "p99_ms": round(times[len(times) * 99 // 100] * 1e3, 4),
            "right": right / SEARCHES,
            "memory_per_entry": round(index.memory_usage / count),
            "grown_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before,
        }), flush=True)


for size in sys.argv[1:] or ["1000", "10000", "100000"]:
    measured(int(size))
