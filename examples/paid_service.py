"""A service that classifies biopsies, as paid ones are: slow, sometimes busy, sometimes broken, and with a price for each answer.

`classify_rows.py` starts it on a free port of this machine. All that it charges goes into its ledger, a SQLite file, which it keeps
whatever becomes of those who asked. It needs nothing but the standard library, and knows nothing of Holdfast.

POST / with a JSON object of `row`, a number, and `values`, an object of 30 measurements. The answer is 200 and `{"label": "benign"}`. What
it charges is in headers: X-Tokens-In, X-Tokens-Out, X-Cost. Two questions with one Idempotency-Key are one: the second is given the
recorded answer, and costs nothing.
"""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from hashlib import blake2b
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

PRICE_IN = Decimal("0.0025")  # for 1,000 tokens of a question
PRICE_OUT = Decimal("0.0100")  # and of an answer
TOKENS_OUT = 24
FAULTY_TRIES = 3

LEDGER = """
CREATE TABLE IF NOT EXISTS questions (row INTEGER PRIMARY KEY, tries INTEGER);
CREATE TABLE IF NOT EXISTS charges (key TEXT UNIQUE, row INTEGER, label TEXT, tokens_in INTEGER, tokens_out INTEGER, cost TEXT);
"""
CHARGED = "INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
RECORDED = "SELECT label, tokens_in, tokens_out, cost FROM charges WHERE key = ?"
TRIED = "INSERT INTO questions VALUES (?, 1) ON CONFLICT DO UPDATE SET tries = tries + 1 RETURNING tries - 1"


class Charge(NamedTuple):
    """One answer, and what it cost."""

    label: str
    tokens_in: int
    tokens_out: int
    cost: str


# what it does


def classify(values: dict[str, float]) -> str:
    """The whole model. It agrees with the pathologist on 92 of 100."""
    return "malignant" if values["worst perimeter"] > 106 else "benign"


def priced(label: str, question: bytes) -> Charge:
    tokens_in = len(question) // 4
    cost = (tokens_in * PRICE_IN + TOKENS_OUT * PRICE_OUT) / 1000
    return Charge(label, tokens_in, TOKENS_OUT, str(cost))


def fault(row: int, tried: int) -> str | None:
    """What goes wrong with the so-manieth question about a row: always the same, so that two days can be compared."""
    dice = digest(row, tried) % 100
    if tried >= FAULTY_TRIES or dice >= 35:
        return None
    return "busy" if dice < 10 else "broken" if dice < 20 else "garbage"


def seconds(row: int, tried: int) -> float:
    """How long an answer takes: 20 to 100 ms."""
    return 0.02 + digest(tried, row) % 81 / 1000


def digest(*numbers: int) -> int:
    return int.from_bytes(blake2b(repr(numbers).encode(), digest_size=4).digest(), "big")


class Ledger:
    """What was asked, and what was charged. Several processes may have it open: one that is about to end, and its successor."""

    def __init__(self, path: str) -> None:
        self.path = path
        with self._opened() as database:
            database.executescript(LEDGER)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A transaction: what it changes is there as a whole, or not at all."""
        with closing(sqlite3.connect(self.path, timeout=30)) as database, database:
            yield database

    def tried(self, row: int) -> int:
        """How often a row was asked for before, this time not counted."""
        with self._opened() as database:
            return int(database.execute(TRIED, (row,)).fetchone()[0])

    def recorded(self, key: str | None) -> Charge | None:
        """The answer that was given under a key."""
        with self._opened() as database:
            found = database.execute(RECORDED, (key,)).fetchone()
        return Charge(*found) if found is not None else None

    def charge(self, key: str | None, row: int, charge: Charge) -> Charge:
        """Charge for an answer: under one key once, however many ask at the same time. Gives the answer that counts."""
        with self._opened() as database:
            database.execute(CHARGED, (key, row, *charge))
        return self.recorded(key) or charge

    def charges(self) -> list[tuple[int, Decimal]]:
        """Each answer that was charged for: its row, and what it cost."""
        with self._opened() as database:
            return [(row, Decimal(cost)) for row, cost in database.execute("SELECT row, cost FROM charges")]


# how it is asked


class Service(ThreadingHTTPServer):
    daemon_threads = False  # it answers what it was asked before it ends
    request_queue_size = 128

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        super().__init__(("127.0.0.1", 0), Question)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked may be gone. The answer is in the ledger, and charged."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Question(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"
    timeout = 5
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        question = self.rfile.read(length := int(self.headers["Content-Length"]))
        if len(question) < length:
            return  # whoever asked is gone, and did not get to the end of the question
        asked, key, ledger = json.loads(question), self.headers["Idempotency-Key"], self.server.ledger
        tried = ledger.tried(asked["row"])
        wrong = fault(asked["row"], tried)
        if wrong == "busy":
            self.answer(HTTPStatus.TOO_MANY_REQUESTS, b"later", {"Retry-After": "1"})
            return
        time.sleep(seconds(asked["row"], tried))
        if wrong == "broken":
            self.answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"Traceback (most recent call last):", {})
            return
        charged = ledger.recorded(key) or ledger.charge(key, asked["row"], priced(classify(asked["values"]), question))
        body = json.dumps({"label": charged.label}).encode()
        usage = {"X-Tokens-In": str(charged.tokens_in), "X-Tokens-Out": str(charged.tokens_out), "X-Cost": charged.cost}
        self.answer(HTTPStatus.OK, body[:-3] + b"\xfe\xff\xfe" if wrong == "garbage" else body, usage)  # charged all the same

    def answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """It keeps a ledger, and no log."""


# how it is started


@contextmanager
def started(ledger: str) -> Iterator[str]:
    """A process with the service, for as long as the block lasts, and its URL.

    It ends when its standard input does. So it outlives a process that is killed by what it has in hand, and by no more.
    """
    command = [sys.executable, os.fspath(__file__), ledger]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def main() -> None:
    with Service(Ledger(sys.argv[1])) as service:
        threading.Thread(target=service.serve_forever, args=(0.05,), daemon=True).start()
        print(f"http://127.0.0.1:{service.server_port}", flush=True)
        sys.stdin.read()
        service.shutdown()


if __name__ == "__main__":
    main()
