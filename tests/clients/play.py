"""A provider that plays the golden fixtures: it answers with what real models wrote, chosen by what it is asked."""
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "wire"


def case_of(body, text):
    """The case that a request asks for."""
    model = str(body.get("model", ""))
    if "limited" in model or "limited" in text:
        return "error"
    if "refuse" in text:
        return "refusal"
    if "think" in text:
        return "reasoning"
    if "picture" in text:
        return "image"
    config = json.dumps(body.get("generationConfig", {}))
    formats = [body.get("response_format"), body.get("text", {}).get("format"), body.get("output_config"), body.get("format")]
    if any(formats) or re.search("response_?(json_?)?schema", config, re.IGNORECASE):
        return "json_schema"
    if body.get("tools") and "degrees" not in text:
        return "tools"
    return "text"


def expected(protocol):
    """What the fixtures say: the text, the JSON, and the arguments of the tool calls."""
    def read(case):
        return json.loads((FIXTURES / protocol / case / "response.json").read_text())

    def parts(case):
        reply = read(case)
        if protocol == "openai_chat":
            message = reply["choices"][0]["message"]
            calls = [json.loads(call["function"]["arguments"]) for call in message.get("tool_calls") or []]
            return message.get("content") or "", calls
        if protocol == "openai_responses":
            texts = [part["text"] for item in reply["output"] if item["type"] == "message" for part in item["content"]]
            return "".join(texts), [json.loads(item["arguments"]) for item in reply["output"] if item["type"] == "function_call"]
        if protocol == "anthropic":
            texts = [block["text"] for block in reply["content"] if block["type"] == "text"]
            return "".join(texts), [block["input"] for block in reply["content"] if block["type"] == "tool_use"]
        if protocol == "ollama_chat":
            calls = reply["message"].get("tool_calls") or []
            return reply["message"]["content"], [call["function"]["arguments"] for call in calls]
        blocks = reply["candidates"][0]["content"]["parts"]
        texts = [block["text"] for block in blocks if "text" in block and not block.get("thought")]
        return "".join(texts), [block["functionCall"]["args"] for block in blocks if "functionCall" in block]

    return {"text": parts("text")[0], "json": json.loads(parts("json_schema")[0]), "calls": parts("tools")[1]}


def handler(protocol, state):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            said = {"models": []} if self.path == "/api/ps" else {"object": "list", "data": [{"id": "fake-model"}]}
            self.send(200, "application/json", json.dumps(said).encode())

        def do_POST(self):
            text = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            body = json.loads(text)
            state["asked"], state["path"] = body, self.path
            if self.path.endswith("/count_tokens"):
                return self.send(200, "application/json", b'{"input_tokens": 77}')
            if self.path.endswith(":countTokens"):
                return self.send(200, "application/json", b'{"totalTokens": 77}')
            if self.path == "/api/embed":
                return self.send(200, "application/json", b'{"model": "fake-model", "embeddings": [[0.5, 0.25]]}')
            if self.path == "/api/show":
                known = body.get("model") == "fake-model"
                said = {"details": {}, "model_info": {}, "capabilities": ["completion"]} if known else {"error": "model not found"}
                return self.send(200 if known else 404, "application/json", json.dumps(said).encode())
            if protocol.startswith("ollama") and not (body.get("messages") or body.get("prompt")):
                reason = "unload" if body.get("keep_alive") == 0 else "load"
                said = {"model": "fake-model", "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": reason}
                return self.send(200, "application/json", json.dumps({**said, "response": "", "message": {"role": "assistant"}}).encode())
            # A question for `/api/generate` comes in other words, and is answered in others.
            spoken = "ollama_generate" if self.path == "/api/generate" else protocol
            folder = FIXTURES / spoken / case_of(body, text)
            if folder.name == "error":
                return self.send(429, "application/json", (folder / "response.json").read_bytes(), {"retry-after": "7"})
            if body.get("stream", protocol.startswith("ollama")) or ":streamGenerateContent" in self.path:
                return self.stream((folder / "stream.txt").read_bytes())
            self.send(200, "application/json", (folder / "response.json").read_bytes())

        def send(self, status, kind, body, headers=None):
            self.send_response(status)
            for name, value in {"content-type": kind, "content-length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def stream(self, bytes_):
            self.send_response(200)
            self.send_header("content-type", "application/x-ndjson" if protocol.startswith("ollama") else "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            # Frames of a word each, cut where no frame ends.
            for at in range(0, len(bytes_), 700):
                self.wfile.write(bytes_[at:at + 700])
                self.wfile.flush()
                time.sleep(0.005)
            self.close_connection = True

    return Handler


def start(protocol):
    """Plays `protocol` on a free port: its address, and what it was asked last."""
    state = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(protocol, state))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}", state
