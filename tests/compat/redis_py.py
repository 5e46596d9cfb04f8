"""Sessions of the Python client `redis`, which knows nothing of the group, against each node of a running one.

    redis_py.py session HOST:PORT...
An ordinary session with each front, in both versions of the protocol. Ends with exit code 0 if every node answered as a
Redis server does; otherwise the assertion that failed is shown.

    redis_py.py storm FOLDER HOME PORT...
Works through the front of number HOME while its node is up, and through another one meanwhile, until FOLDER holds a
file `stop`. A file named by each port holds a number that is odd while that node is down on purpose. Prints what it was
told, as a JSON list: see `Told` in crates/hotwarm/tests/support/storm.rs.

The client's own retries are off: what it is told is what the group said. It uses keys below `compat:`, `storm:` and
`py:`, and starts and stops no node.
"""

import json
import pathlib
import sys
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

SHARED = "storm:shared"
WATCHED = "storm:watched"
ERRORS_MAX = 10
# The client makes a WatchError of a connection that breaks while it watches: the outcome is not known.
BROKEN_WATCHING = "occurred while watching"


def connect(host, port, protocol):
    return redis.Redis(
        host=host,
        port=port,
        protocol=protocol,
        socket_timeout=30,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
    )


def session(client, own):
    """What an application does in an ordinary session, with keys below `own`."""
    text, count, brief = f"{own}:text", f"{own}:count", f"{own}:brief"
    assert client.set(text, b"a \0 value\r\n") is True
    assert client.get(text) == b"a \0 value\r\n"
    assert client.set(text, "other", nx=True) is None
    assert client.set(text, b"a \0 value\r\n", get=True) == b"a \0 value\r\n"
    assert client.getrange(text, 2, 2) == b"\0"
    assert client.incrby(count, 41) == 41
    try:
        client.incr(text)
        raise AssertionError("a text was counted up")
    except redis.ResponseError as error:
        assert "not an integer" in str(error), error

    with client.pipeline(transaction=True) as pipe:
        assert pipe.incr(count).incr(count).execute() == [42, 43]
    with client.pipeline(transaction=False) as pipe:
        for number in range(200):
            pipe.set(f"{own}:many:{number}", number)
        assert pipe.execute() == [True] * 200
    found = set(client.scan_iter(match=f"{own}:many:*", count=50))
    assert len(found) == 200, len(found)
    assert client.mget(f"{own}:many:7", f"{own}:nothing") == [b"7", None]

    with client.pipeline() as pipe:
        pipe.watch(count)
        client.incr(count)
        pipe.multi()
        pipe.set(count, 0)
        try:
            pipe.execute()
            raise AssertionError("a watched key was changed, and the transaction executed")
        except redis.WatchError as error:
            if BROKEN_WATCHING in str(error):
                raise
    assert client.get(count) == b"44"

    assert client.set(count, 1, exat=4102444800) is True
    assert client.expiretime(count) == 4102444800
    assert client.persist(count) is True
    client.set(brief, "gone soon", px=50)
    deadline = time.monotonic() + 20
    while client.exists(brief):
        assert time.monotonic() < deadline, "the key does not expire"
    assert client.delete(text, count, *found) == 202


def sessions(addresses):
    for address in addresses:
        host, port = address.rsplit(":", 1)
        for protocol in (2, 3):
            client = connect(host, int(port), protocol)
            session(client, f"compat:{port}:{protocol}")
            client.close()
            print(f"{address}: RESP{protocol} session is sound")


class Broken(Exception):
    """The connection broke: what was asked may have been done or not."""


class Worker:
    """An application that uses its own node while that is up, and another one meanwhile."""

    def __init__(self, folder, home, ports, protocol):
        self.folder, self.home, self.ports, self.protocol = folder, home, ports, protocol
        self.own = f"py:{home}:{protocol}"
        self.session_id = f"{0xABC0 + 16 * home + protocol:032x}"
        self.client, self.port, self.outages = None, None, None
        self.counters, self.exact, self.kept = {}, {}, {}
        self.reconnects, self.errors = 0, []

    def run(self):
        number = 0
        while not (self.folder / "stop").exists() and len(self.errors) < ERRORS_MAX:
            number += 1
            try:
                self.count_up()
                self.count_up_exactly()
                self.keep(number)
                self.count_up_twice()
                self.count_up_if_unchanged()
                if number % 20 == 0:
                    self.ask(lambda: session(self.client, f"{self.own}:{number}"))
            except Broken:
                pass

    def counter(self, key):
        return self.counters.setdefault(key, {"seen": [], "unknown": 0})

    def count(self, key, steps, ask):
        """Asks for so many steps of a counter; `ask` gives the values after them."""
        counted = self.counter(key)
        counted["unknown"] += steps
        seen = self.ask(ask)
        counted["unknown"] -= steps
        counted["seen"] += seen

    def count_up(self):
        self.count(SHARED, 1, lambda: [self.client.incr(SHARED)])

    def count_up_exactly(self):
        """Under the session's numbers: sent again until it is answered."""
        key = f"{self.own}:exact"
        number = self.exact.get(key, 0) + 1
        value = self.until_answered(lambda: self.client.execute_command("HOTWARM", "SEQ", number, "INCR", key))
        self.expect(key, value, number)
        self.exact[key] = number

    def keep(self, number):
        """A value that only this worker writes, which it may send again."""
        key = f"{self.own}:kept"
        self.until_answered(lambda: self.client.set(key, number))
        self.kept[key] = str(number)
        self.expect(key, self.until_answered(lambda: self.client.get(key)), str(number).encode())

    def count_up_twice(self):
        key = f"{self.own}:twice"

        def transaction():
            with self.client.pipeline(transaction=True) as pipe:
                return pipe.incr(key).incr(key).execute()

        self.count(key, 2, transaction)
        first, second = self.counter(key)["seen"][-2:]
        self.expect(key, second, first + 1)

    def count_up_if_unchanged(self):
        """A transaction over a key that all workers write."""

        def transaction():
            with self.client.pipeline() as pipe:
                pipe.watch(WATCHED)
                value = int(pipe.get(WATCHED) or 0) + 1
                pipe.multi()
                pipe.set(WATCHED, value)
                try:
                    pipe.execute()
                    return [value]
                except redis.WatchError as error:
                    if BROKEN_WATCHING in str(error):
                        raise
                    return []

        self.count(WATCHED, 1, transaction)

    def expect(self, key, value, wanted):
        if value != wanted:
            self.error(f"{key} is {value!r} instead of {wanted!r}")

    def error(self, text):
        self.errors.append(f"{self.own}: {text}")

    def until_answered(self, ask):
        while True:
            try:
                return self.ask(ask)
            except Broken:
                if len(self.errors) >= ERRORS_MAX:
                    raise

    def ask(self, ask):
        """Asks once."""
        try:
            if self.client is not None and self.port != self.ports[self.home] and self.is_up(self.ports[self.home]):
                self.client.close()
                self.client = None
            if self.client is None:
                self.connect()
            return ask()
        except (redis.RedisError, AssertionError) as error:
            broken = isinstance(error, (redis.ConnectionError, redis.TimeoutError)) or BROKEN_WATCHING in str(error)
            # Of some replies that are errors the client makes one of a connection.
            replied = isinstance(error, (redis.exceptions.BusyLoadingError, redis.AuthenticationError))
            if broken and not replied and self.outages != self.number(self.port):
                self.reconnects += 1
            else:
                self.error(f"by the node at {self.port}: {error!r}: {error}")
        self.client = None
        raise Broken

    def connect(self):
        self.port = next(port for port in self.in_turn() if self.is_up(port))
        self.outages = self.number(self.port)
        self.client = connect("127.0.0.1", self.port, self.protocol)
        self.client.execute_command("HOTWARM", "SESSION", self.session_id)

    def in_turn(self):
        return self.ports[self.home :] + self.ports[: self.home]

    def number(self, port):
        return int((self.folder / str(port)).read_text())

    def is_up(self, port):
        return self.number(port) % 2 == 0

    def told(self):
        names = ("counters", "exact", "kept", "reconnects", "errors")
        return {name: getattr(self, name) for name in names}


def storm(folder, home, ports):
    """One worker for each version of the protocol; their records do not meet, and are printed as a list."""
    workers = [Worker(pathlib.Path(folder), int(home), [int(port) for port in ports], protocol) for protocol in (2, 3)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump([worker.told() for worker in workers], sys.stdout)


def main(arguments):
    if len(arguments) > 1 and arguments[0] == "session":
        sessions(arguments[1:])
    elif len(arguments) > 3 and arguments[0] == "storm":
        storm(arguments[1], arguments[2], arguments[3:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
