"""Programs of stand-in images, with nothing but Python's own library: the guestbook's front end and its Redis leader,
and the page on which the documentation's autoscaling walk-through puts load.

The front end does what the documentation's PHP page does: SET on the leader, GET from a follower, both by DNS name. The
leader is a plain redis-server that first takes over what a follower holds: the documentation's starts empty wherever it
starts, as its data is on no volume, and its followers then copy that.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

LEADER = os.environ.get("GUESTBOOK_LEADER", "redis-leader")
FOLLOWER = os.environ.get("GUESTBOOK_FOLLOWER", "redis-follower")
REDIS_PORT, SOCKET = 6379, "/tmp/redis.sock"
TIMEOUT_SECONDS = 2.0
# Connections go to the followers in turn, so that every one of a few is asked.
FOLLOWERS_ASKED = 8
Answer = bytes | int | None | list["Answer"]


class RedisError(Exception):
    """Redis's own words for what it refused."""


class Redis:
    """One connection to a Redis server, by name and port or by a unix socket's path. Raises OSError, RedisError."""

    def __init__(self, host: str = "", path: str = "") -> None:
        if path:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(TIMEOUT_SECONDS)
            self._socket.connect(path)
        else:
            self._socket = socket.create_connection((host, REDIS_PORT), TIMEOUT_SECONDS)
        self._file: BinaryIO = self._socket.makefile("rb")

    def __enter__(self) -> Redis:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._socket.close()

    def ask(self, *words: bytes | str) -> Answer:
        encoded = [word.encode() if isinstance(word, str) else word for word in words]
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
        self._socket.sendall(b"*%d\r\n%s" % (len(words), parts))
        return self._answer()

    def _answer(self) -> Answer:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("Redis has ended the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b"+":
            return rest
        number = int(rest)
        if kind == b":":
            return number
        if number < 0:
            return None
        if kind == b"*":
            return [self._answer() for _ in range(number)]
        return self._file.read(number + 2)[:-2]


class FrontEnd(BaseHTTPRequestHandler):
    """`/guestbook.php?cmd=set&key=K&value=V` and `/guestbook.php?cmd=get&key=K`, answered in JSON; else a page."""

    def do_GET(self) -> None:
        words = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        try:
            status, answer = 200, self._act(words)
        except (OSError, RedisError) as error:
            status, answer = 503, json.dumps({"error": str(error)})
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if "cmd" in words else "text/html")
        self.send_header("Content-Length", str(len(answer.encode())))
        self.end_headers()
        self.wfile.write(answer.encode())

    def _act(self, words: dict[str, str]) -> str:
        if words.get("cmd") == "set":
            with Redis(LEADER) as leader:
                leader.ask("SET", words["key"], words["value"])
            return json.dumps({"message": "Updated"})
        if words.get("cmd") == "get":
            with Redis(FOLLOWER) as follower:
                found = follower.ask("GET", words["key"])
            return json.dumps({"data": found.decode() if isinstance(found, bytes) else ""})
        return "<html><head><title>Guestbook</title></head><body><h2>Guestbook</h2></body></html>"

    def log_message(self, format: str, *arguments: object) -> None:
        print(format % arguments, flush=True)


class Computing(BaseHTTPRequestHandler):
    """Answers any page with OK! after a million square roots, as the walk-through's PHP page does."""

    def do_GET(self) -> None:
        x = 0.0001
        for _ in range(1_000_001):
            x += math.sqrt(x)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"OK!")


class Server(ThreadingHTTPServer):
    """With room for the connections of a moment in which Redis is slow."""

    daemon_threads = True
    request_queue_size = 128


def held_by_followers() -> dict[bytes, bytes]:
    """All keys of the follower that has heard most of a leader, dumped; nothing when there is none."""
    best, held = 0, dict[bytes, bytes]()
    for _ in range(FOLLOWERS_ASKED):
        try:
            with Redis(FOLLOWER) as follower:
                told = follower.ask("INFO", "replication")
                assert isinstance(told, bytes)
                lines = dict(line.partition(b":")[::2] for line in told.split())
                heard = int(lines.get(b"slave_repl_offset", b"0"))
                if heard > best:
                    best, held = heard, dumped(follower)
        except (OSError, RedisError) as error:
            print(f"no answer from {FOLLOWER}: {error}", flush=True)
            time.sleep(0.2)
    return held


def dumped(redis: Redis) -> dict[bytes, bytes]:
    keys = redis.ask("KEYS", "*")
    assert isinstance(keys, list)
    return {key: dump for key in keys if isinstance(key, bytes) and isinstance(dump := redis.ask("DUMP", key), bytes)}


def lead() -> None:
    """Becomes a redis-server that opens its port once it holds what the followers hold."""
    held = held_by_followers()
    print(f"starts with {len(held)} keys of its followers", flush=True)
    if os.fork():
        words = ["--protected-mode", "no", "--save", "", "--dir", "/data", "--repl-ping-replica-period", "1"]
        # Followers get their copy when they ask: Redis' own default waits 5 s for more of them.
        words += ["--repl-diskless-sync-delay", "0"]
        os.execvp("redis-server", ["redis-server", *words, "--port", "0", "--unixsocket", SOCKET])
    while True:
        try:
            with Redis(path=SOCKET) as own:
                for key, dump in held.items():
                    own.ask("RESTORE", key, "0", dump, "REPLACE")
                own.ask("CONFIG", "SET", "port", str(REDIS_PORT))
            return
        except OSError:
            time.sleep(0.02)


if __name__ == "__main__":
    if sys.argv[1:] == ["leader"]:
        lead()
    else:
        Server(("", 80), Computing if sys.argv[1:] == ["compute"] else FrontEnd).serve_forever()
