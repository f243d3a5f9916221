"""A reward model of type api, as small as one can be: a score for each text, the higher the shorter its words.

    python examples/reward_server.py --port 8900

It is sent {"model": ..., "messages": [prompt + response, ...]} and answers {"scores": [...]}, one number a text, in their order.
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def score(text: str) -> float:
    """Minus the mean length of the last words, those of the response among them."""
    words = text.split()[-10:]
    return -sum(map(len, words)) / max(len(words), 1)


class RewardModel(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
        body = json.dumps({"scores": [score(text) for text in texts]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8900)
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), RewardModel)
    print(f"listening on http://127.0.0.1:{server.server_port}")
    server.serve_forever()


if __name__ == "__main__":
    main()
