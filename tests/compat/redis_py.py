"""A scripted session with the Python client `redis` against each node of a running group.

Usage: python3 redis_py.py HOST:PORT...   the fronts of the group's nodes
Ends with exit code 0 if every node answered as a Redis server does; otherwise the assertion that failed is shown.
It uses keys below `compat:` and removes them. It starts and stops no node.
"""

import sys
import time

import redis


def session(client, own):
    """What an application does in an ordinary session, with keys below `own`."""
    text, count, brief = f"{own}:text", f"{own}:count", f"{own}:brief"
    assert client.set(text, b"a \0 value\r\n") is True
    assert client.get(text) == b"a \0 value\r\n"
    assert client.set(text, "other", nx=True) is None
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

    with client.pipeline() as pipe:
        pipe.watch(count)
        client.incr(count)
        pipe.multi()
        pipe.set(count, 0)
        try:
            pipe.execute()
            raise AssertionError("a watched key was changed, and the transaction executed")
        except redis.WatchError:
            pass
    assert client.get(count) == b"44"

    client.set(brief, "gone soon", px=50)
    deadline = time.monotonic() + 20
    while client.exists(brief):
        assert time.monotonic() < deadline, "the key does not expire"
    assert client.delete(text, count, *found) == 202


def main(addresses):
    if not addresses:
        sys.exit(__doc__)
    for address in addresses:
        host, port = address.rsplit(":", 1)
        for protocol in (2, 3):
            client = redis.Redis(host=host, port=int(port), protocol=protocol, socket_timeout=30)
            session(client, f"compat:{port}:{protocol}")
            client.close()
            print(f"{address}: RESP{protocol} session is sound")


if __name__ == "__main__":
    main(sys.argv[1:])
