"""A nursery whose phones do one thing wrong on the wire, all else being the real code.

    python wrong_nursery.py FAULT [arguments of the nursery]

FAULT is ``none``, or WHAT:PART with WHAT a method or ``response`` and PART what is spoiled in each
such datagram: ``to_tag`` (another random one every time), ``branch``, ``cseq``.
"""

from __future__ import annotations

import random
import re
import runpy
import sys
from collections.abc import Callable

from sipherd.worker.stack import Address, Send

Spoil = Callable[[bytes], bytes]


def _random_tag(data: bytes) -> bytes:
    # Its own randomness: the phones are forks of one process.
    tag = b"%x" % random.SystemRandom().getrandbits(64)
    return re.sub(rb"(?im)^(To:[^\r\n]*;tag=)[^;\s]+", rb"\g<1>" + tag, data)


def _other_branch(data: bytes) -> bytes:
    return re.sub(rb"(?im)^(Via:[^\r\n]*;branch=z9hG4bK)", rb"\g<1>other", data)


def _higher_cseq(data: bytes) -> bytes:
    return re.sub(rb"(?im)^(CSeq: *)(\d+)", lambda m: m[1] + b"%d" % (int(m[2]) + 1), data)


PARTS: dict[str, Spoil] = {
    "to_tag": _random_tag,
    "branch": _other_branch,
    "cseq": _higher_cseq,
}


def inject(what: str, spoil: Spoil) -> None:
    """Every datagram of a stack is a Send: spoil it there, whatever the engine looks like."""
    start = b"SIP/2.0 " if what == "response" else f"{what} ".encode()
    make = Send.__init__

    def make_wrong(self: Send, data: bytes, destination: Address) -> None:
        make(self, spoil(data) if data.startswith(start) else data, destination)

    Send.__init__ = make_wrong  # type: ignore[method-assign]


if __name__ == "__main__":
    fault = sys.argv.pop(1)
    if fault != "none":
        what, _, part = fault.partition(":")
        inject(what, PARTS[part])
    runpy.run_module("sipherd.worker.nursery", run_name="__main__", alter_sys=True)
