"""Starts the built sidecar, for the suites of clients and agents. WEIR_BIN names it."""
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = os.environ.get("WEIR_BIN", str(ROOT / "target/release/weir"))


def start(folder, settings, **surroundings):
    """One with these settings, which keeps what it has in `folder`: the process, and its URL. No key of ours is seen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "weir.toml"
    config.write_text(f'{settings}\n[server]\nlisten = "127.0.0.1:{port}"\n')
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")} | surroundings
    command = [BIN, "serve", "--config", str(config), "--data-dir", str(folder / "data")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=open(folder / "log", "w"))
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=1)
            return process, url
        except OSError:
            time.sleep(0.05)
    process.kill()
    sys.exit(f"the sidecar did not start: {(folder / 'log').read_text()[-500:]}")
