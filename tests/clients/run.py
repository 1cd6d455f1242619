"""Runs every suite against a sidecar in front of every kind of provider, and in front of none. WEIR_BIN names the sidecar."""
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import play

sys.path.append(str(Path(__file__).resolve().parents[1]))
from sidecar import ROOT, start

HERE = Path(__file__).resolve().parent
CLIENTS = ROOT / "target/clients"
# The provider's kind, the protocol it plays, and how its base URL ends.
PROVIDERS = {
    "chat": ("generic", "openai_chat", "/v1", ""),
    "responses": ("generic", "openai_responses", "/v1", 'api = "responses"'),
    "anthropic": ("anthropic", "anthropic", "/v1", ""),
    "gemini": ("gemini", "gemini", "/v1beta", ""),
    "ollama": ("ollama", "ollama_chat", "", ""),
}


def sidecar(folder, kind, base_url, more):
    """A sidecar in front of one provider; without models, so that nothing else answers.

    A model that was limited is left alone for a while: each check of that asks for a model of its own.
    """
    return start(folder, f"""
[cache]
semantic = "off"
[local]
enabled = false
[chain]
# A limit is to be seen by the client, and not waited out.
max_wait_seconds = 0
[[upstream]]
name = "fake"
kind = "{kind}"
base_url = "{base_url}"
api_key = "sk-fake-key-1234"
{more}
""")


def alone(folder):
    """A sidecar without providers and keys, and without a way into the network: only the local model answers."""
    nowhere = "http://127.0.0.1:9"
    settings = f'models_dir = "{ROOT / "models"}"\n[cache]\nsemantic = "off"\nexact = "off"\n'
    return start(folder, settings, HTTP_PROXY=nowhere, HTTPS_PROXY=nowhere, NO_PROXY="")


def python_suite(name):
    module = importlib.import_module(name)
    importlib.reload(module)
    for check in [check for check in dir(module) if check.startswith("check_")]:
        try:
            getattr(module, check)()
            yield f"PASS {check[6:]}"
        except Exception as error:
            yield f"FAIL {check[6:]}: {type(error).__name__} {str(error)[:300]}"


def node_suite(name):
    # Modules are looked for beside the file, and nothing is installed beside the sources.
    for file in [f"{name}.mjs", "run.mjs"]:
        shutil.copy(HERE / file, CLIENTS / file)
    command = [CLIENTS / "venv/bin/node", "run.mjs", f"./{name}.mjs"]
    output = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, timeout=120)
    return output.stdout.splitlines() or [f"FAIL {name}: {output.stderr[-300:]}"]


def settled(url):
    """Waits until the local model is ready."""
    for _ in range(600):
        with urllib.request.urlopen(f"{url}/status", timeout=5) as told:
            state = json.load(told)["local"]["state"]
        if state != "loading":
            return
        time.sleep(0.1)


def main():
    failed = passed = 0

    def tell(suites, where):
        nonlocal failed, passed
        for suite, lines in suites.items():
            for line in lines:
                print(f"{line.split(' ', 1)[0]} {suite} -> {where}: {line.split(' ', 1)[1]}", flush=True)
                passed += line.startswith("PASS")
                failed += line.startswith("FAIL")

    for kind, (upstream, protocol, version, more) in PROVIDERS.items():
        base, _ = play.start(protocol)
        with tempfile.TemporaryDirectory() as folder:
            process, url = sidecar(Path(folder), upstream, base + version, more)
            os.environ.update(BASE_URL=url, KIND=kind, EXPECTED=json.dumps(play.expected(protocol)))
            try:
                suites = {
                    "openai python": python_suite("openai_suite"), "anthropic python": python_suite("anthropic_suite"),
                    "gemini python": python_suite("gemini_suite"), "ollama python": python_suite("ollama_suite"),
                    "openai node": node_suite("openai_suite"), "anthropic node": node_suite("anthropic_suite"),
                }
                tell(suites, kind)
            finally:
                process.terminate()
                process.wait(timeout=20)
    with tempfile.TemporaryDirectory() as folder:
        process, url = alone(Path(folder))
        os.environ.update(BASE_URL=url)
        try:
            settled(url)
            tell({"python": python_suite("local_suite"), "node": node_suite("local_suite")}, "the local model alone")
        finally:
            process.terminate()
            process.wait(timeout=20)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
