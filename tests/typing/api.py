"""The public API as its users write it: never run, checked by mypy --strict."""

from __future__ import annotations

import os

from sipherd.protocol.errors import HerdFileError, PhoneNotFound, SipherdError
from sipherd.protocol.herdfile import load_herd_file, parse_herd
from sipherd.protocol.spec import HerdSpec, OnIncoming, PhoneSpec, PortRange


def herd_file() -> HerdSpec:
    try:
        herd: HerdSpec = load_herd_file("herd.yaml", os.environ)
    except HerdFileError as error:
        problems: list[str] = error.problems
        raise SystemExit("\n".join(problems)) from None
    first: PhoneSpec = herd.phones[0]
    limit: int | None = first.call_limit
    number: str = first.number
    print(limit, number)
    return parse_herd("phones: [{name: alice}]", "herd.yaml", {})


def specs() -> PhoneSpec:
    ports: PortRange = PortRange.parse("5060-7058")
    print(len(ports), 5060 in ports)
    return PhoneSpec(name="bob", port=0, on_incoming=OnIncoming(answer_after=0.5))


def errors(error: PhoneNotFound) -> tuple[str, ...]:
    base: SipherdError = error
    print(base)
    return error.near
