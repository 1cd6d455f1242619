"""A provider that gives another answer to each request, in OpenAI's chat protocol."""
import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def chunk(delta, finish=None, usage=None):
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "some-model", "choices": choices}
    return f"data: {json.dumps({**body, **({'usage': usage} if usage else {})})}\n\n"


def handler(answers):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send("application/json", b'{"object": "list", "data": [{"id": "some-model"}]}')

        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
            said = chunk({"role": "assistant", "content": f"Answer {next(answers)}."})
            body = said + chunk({}, "stop") + chunk({}, usage=usage) + "data: [DONE]\n\n"
            self.send("text/event-stream", body.encode())

        def send(self, kind, body):
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def start():
    """Answers on a free port: its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(itertools.count(1)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
