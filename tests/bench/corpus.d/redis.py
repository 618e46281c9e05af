# SPDX-License-Identifier: MIT
"""A web application's load on a database: sessions, a page cache, a ranking and queues; changed and expired at random.

Writes redis's protocol to the socket given; ends when all is stored."""

import random
import re
import socket
import sys
import sysconfig
import threading
from pathlib import Path

random.seed(1)
TEXT = "".join(
    path.read_text(encoding="utf-8", errors="replace") for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
)
WORDS = sorted(set(re.findall(r"[a-z]{3,}", TEXT)))


def token():
    return f"{random.getrandbits(128):032x}"


def session():
    n = random.randrange(250_000)
    return (
        "HSET", f"session:{n}", "user", random.choice(WORDS), "csrf", token(), "seen", str(1_700_000_000 + n * 7),
        "cart", ",".join(str(random.randrange(5000)) for _ in range(random.randrange(12))),
    )  # fmt: skip


def page():
    start = random.randrange(len(TEXT) - 9000)
    return "SET", f"page:{random.randrange(90_000)}", TEXT[start : start + int(random.lognormvariate(7, 0.8)) % 9000]


def record():
    n = random.randrange(300_000)
    return (
        "SET", f"user:{n}",
        f'{{"id": {n}, "name": "{random.choice(WORDS)}", "mail": "{random.choice(WORDS)}@example.org", "active": true, '
        f'"balance": {random.gauss(100, 30):.2f}, "tags": ["{random.choice(WORDS)}", "{random.choice(WORDS)}"]}}',
    )  # fmt: skip


def rank():
    return "ZADD", "ranking", str(random.randrange(1_000_000)), f"user:{random.randrange(300_000)}"


def job():
    return "RPUSH", f"queue:{random.randrange(50)}", f"{random.choice(WORDS)}:{random.getrandbits(48):x}"


def drop():
    kind, size = random.choice((("session", 250_000), ("page", 90_000), ("user", 300_000)))
    return "DEL", f"{kind}:{random.randrange(size)}"


def encode(command):
    parts = [part.encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


COMMANDS = 1_250_000
kinds = random.choices((session, page, record, rank, job, drop), (25, 15, 25, 15, 10, 10), k=COMMANDS)
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])

    def send():
        for start in range(0, COMMANDS, 1000):
            server.sendall(b"".join(encode(kind()) for kind in kinds[start : start + 1000]))
        server.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    # Each command is answered by one line.
    answers = b"".join(iter(lambda: server.recv(1 << 20), b""))

lines = answers.splitlines()
if len(lines) != COMMANDS or any(line.startswith(b"-") for line in lines):
    sys.exit(f"redis answered {len(lines)} of {COMMANDS} commands, or an error")
print("corpus: ready", flush=True)
