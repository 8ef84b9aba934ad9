"""How long a call takes to be answered: from `call()` until its caller's client knows of the 200.

    python benchmarks/call_setup.py [--calls 200]

Two phones of a private herd; bob answers by himself at once. A call's way is client → supervisor →
alice → UDP → bob → UDP → alice → supervisor → client, so it is six hops between processes. What
one hop costs on this box at this moment is measured beside it: half of a UDP round trip between
two Python processes that do nothing else. SIPp is no reference: its clock ticks in milliseconds.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

from sipherd import Herd

HOPS = 6
#: Bytes of one of our INVITEs.
SIZE = 620

ECHO = """
import socket
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
echo.bind(("127.0.0.1", 0))
print(echo.getsockname()[1], flush=True)
while True:
    data, source = echo.recvfrom(2048)
    if not data:
        break
    echo.sendto(data, source)
"""


def calls(count: int) -> list[float]:
    """Milliseconds that each call took to be answered."""
    phones: list[dict[str, Any]] = [
        {"name": "alice", "media": "none"},
        {"name": "bob", "media": "none", "on_incoming": {"answer_after": 0}},
    ]
    took = []
    with Herd(phones) as herd:
        alice, bob = herd
        for _ in range(count + 1):
            began = time.perf_counter()
            call = alice.call(bob)
            call.wait_answered(timeout=5)
            took.append((time.perf_counter() - began) * 1000)
            call.hang_up(timeout=5)
    return took[1:]  # the first one warms up


def round_trips(count: int) -> list[float]:
    """Milliseconds of UDP round trips between this process and another."""
    with (
        subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True) as echo,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        assert echo.stdout
        sock.settimeout(5)
        sock.connect(("127.0.0.1", int(echo.stdout.readline())))
        took = []
        for _ in range(count + 1):
            began = time.perf_counter()
            sock.send(b"x" * SIZE)
            sock.recv(2048)
            took.append((time.perf_counter() - began) * 1000)
        sock.send(b"")
        return took[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how long calls take to be answered.")
    parser.add_argument("--calls", type=int, default=200, help="how many (default: 200)")
    count = parser.parse_args().calls
    answered = calls(count)
    trips = round_trips(count)
    for what, took in (("call() to answered", answered), ("UDP round trip", trips)):
        p95 = statistics.quantiles(took, n=20)[-1]
        middle = statistics.median(took)
        print(f"{what:20} median {middle:7.3f} ms   p95 {p95:7.3f} ms   worst {max(took):7.3f} ms")
    hops = statistics.median(trips) / 2 * HOPS
    ratio = statistics.median(answered) / hops
    print(f"{count} calls; the median is {ratio:.1f} times that of {HOPS} bare UDP hops")


if __name__ == "__main__":
    main()
