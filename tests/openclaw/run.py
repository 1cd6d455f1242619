"""Lets OpenClaw ask through the sidecar, and looks where its answers come from. WEIR_BIN names the sidecar."""
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import questions
import upstream

sys.path.append(str(Path(__file__).resolve().parents[1]))
from sidecar import ROOT, start

HOME = ROOT / "target/openclaw"
TURN_SECONDS = 180


def sidecar(folder, base_url):
    """The sidecar in front of the provider, with its own encoder and without its own model."""
    return start(folder, f"""
models_dir = "{ROOT / 'models'}"
[embed]
deadline_ms = 10000  # agents and builds may keep the machine busy
[local]
enabled = false
[[project]]
name = "allowed"
tools = "on"
[[upstream]]
name = "fake"
kind = "generic"
base_url = "{base_url}/v1"
api_key = "sk-fake-key-1234"
""")


def agent(folder, url, project, question):
    """One turn of a new agent in a folder of its own: what it says in the end."""
    folder.mkdir()
    model = {"id": "some-model", "name": "some-model", "input": ["text"], "contextWindow": 128000, "maxTokens": 4096,
             "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}}
    provider = {"baseUrl": f"{url}/v1", "apiKey": "none", "api": "openai-completions", "models": [model],
                "headers": {"x-weir-project": project}}
    config = folder.with_suffix(".json")
    config.write_text(json.dumps({"models": {"mode": "replace", "providers": {"weir": provider}}}))
    node = HOME / "venv/bin"
    environment = {**os.environ, "HOME": str(folder.parent), "PATH": f"{node}:{os.environ['PATH']}"}
    command = [node / "node", HOME / "node_modules/openclaw/openclaw.mjs", "agent", "exec", "--config", config,
               "--model", "weir/some-model", "--json", "--cwd", folder, "--timeout", str(TURN_SECONDS - 30), question]
    turn = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TURN_SECONDS)
    try:
        return json.loads(turn.stdout)["final"]
    except (json.JSONDecodeError, KeyError):
        sys.exit(f"the turn failed: {turn.stdout[-300:]} {turn.stderr[-600:]}")


def counted(url):
    """How often memory answered, by tier, and how often it did not, by reason."""
    page = urllib.request.urlopen(f"{url}/metrics").read().decode()
    found = re.findall(r'^weir_cache_(?:hits|misses)_total\{.*(?:tier|reason)="([^"]*)"\} (\d+)', page, re.MULTILINE)
    return {name: int(count) for name, count in found}


def main():
    base_url = upstream.start()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        process, url = sidecar(folder, base_url)
        given = {}
        try:
            for number, (project, question, expected) in enumerate(questions.TURNS):
                before = counted(url)
                said = agent(folder / f"work{number}", url, project, question)
                after = counted(url)
                told = [name for name in after if after[name] > before.get(name, 0)]
                # The provider never says the same twice; it may be asked behind a hit, to check the answer.
                hit = expected in ("exact", "semantic")
                known = {answer for answers in given.values() for answer in answers}
                right = said in given.get(project, []) if hit else said not in known
                right &= told == [expected] or (expected == "miss" and not {"exact", "semantic"} & set(told))
                given.setdefault(project, []).append(said)
                failed += not right
                print(f"{'PASS' if right else 'FAIL'} {project}: {question} -> {' '.join(told)}, expected {expected}: {said}", flush=True)
        finally:
            process.terminate()
            process.wait(timeout=20)
    print(f"{len(questions.TURNS) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
