"""The public API as its users write it: never run, checked by mypy --strict."""

from __future__ import annotations

import os
from pathlib import Path

from sipherd import (
    BehaviourError,
    Call,
    CallFailed,
    CallInfo,
    CallState,
    CancelReport,
    CommandRefused,
    Event,
    EventsMissed,
    EventStream,
    Herd,
    HerdInfo,
    IncomingCall,
    Phone,
    PhoneInfo,
    PhoneState,
    StopReport,
    TimedOut,
)
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


def behaviours(herd: Herd) -> None:
    def answer(phone: Phone) -> None:
        phone.incoming().answer()

    added: Phone = herd.add("carol", behaviour=answer, number="1003")
    try:
        herd.add("dave", behaviour=lambda phone: phone.call(added))
    except BehaviourError as error:
        base: SipherdError = error
        print(base)


def readme() -> None:
    with Herd(phones=2) as herd:
        alice, bob = herd
        call: Call = alice.call(bob)
        incoming: IncomingCall = bob.incoming(timeout=2)
        incoming.answer()
        info: CallInfo = call.wait_answered(timeout=2)
        codec: str = info.codec
        print(codec, incoming.from_uri, incoming.from_display)
        ended: CallInfo = call.hang_up()
        if ended.state is CallState.ENDED:
            print(ended.cause, ended.by, ended.bye_answered)


def ways_to_a_herd() -> list[Herd]:
    wanted = PhoneSpec(name="cid", on_incoming=OnIncoming(reject=603))
    return [
        Herd(),
        Herd(["ann", {"name": "ben", "number": "1002", "media": "none"}, wanted], name="mine"),
        Herd.connect("lab", runtime_dir=Path("/run/sipherd")),
        Herd.connect(endpoint="tcp://192.0.2.10:7060", key="laptop.key"),
        Herd.connect("lab", endpoint="tcp://box:7060", key=Path("laptop.key")),
        Herd.from_file("herd.yaml"),
    ]


def phones(herd: Herd) -> None:
    phone: Phone = herd["1001"]
    same: Phone = herd.phone("alice")
    info: PhoneInfo = phone.info()
    if info.state is PhoneState.FAILED:
        print(info.why, phone.restart().pid, phone.reset().incarnation)
    report: StopReport = same.stop(now=True)
    started: PhoneInfo = same.start()
    added: Phone = herd.add("carol", number="1003", on_incoming={"answer_after": 0.5})
    print(report.how, started.port, added.uri, herd.remove(added).seconds)
    names: list[str] = [phone.name for phone in herd]
    infos: list[PhoneInfo] = herd.phones()
    print(names, infos, len(herd))


def calls(herd: Herd) -> str:
    call = herd["alice"].call("sip:1002@192.0.2.7", ring_timeout=10, detached=True)
    try:
        call.wait_ringing()
        call.wait_answered(timeout=5.0)
    except CallFailed as failed:
        code: int | None = failed.code
        return f"{code} {failed.reason} {failed.cause} {failed.why}"
    except TimedOut as timed_out:
        report: CancelReport = call.cancel()
        return f"{timed_out.awaited} {timed_out.seconds} {report.outcome}"
    except CommandRefused as refused:
        return refused.reason
    return call.wait_ended(timeout=None).sip_call_id


def within_a_call(alice: Phone, bob: Phone) -> str:
    alice.wait_registered(timeout=10)
    alice.register()
    call = alice.call("1002", direct=True)
    call.wait_answered(timeout=5)
    call.hold()
    call.retrieve(timeout=5)
    held: tuple[str, ...] = call.wait_held(timeout=5).held
    call.wait_retrieved(timeout=5)
    call.play(Path("welcome.wav"), loop=True)
    call.play("tone:440")
    call.stop_playing()
    call.record("call.wav", "both")
    call.stop_recording()
    call.send_dtmf("12#")
    digits: str = call.wait_dtmf(3, timeout=5)
    consult: Call = alice.call(bob)
    call.transfer(consult)
    consult.transfer("1003", timeout=5)
    other: Call = call.wait_transferred(timeout=5)
    media = other.wait_ended().media
    lost: int = media.lost if media is not None else 0
    alice.unregister()
    return f"{held} {digits} {lost}"


def observe(herd: Herd) -> None:
    info: HerdInfo = herd.info()
    allocated: float = herd.counters()["ports_allocated"]
    print(info.states, allocated, herd.name, herd.pid, [call.call for call in herd.calls()])
    with herd.events(timeout=1.0, after=0) as events:
        stream: EventStream = events
        try:
            for event in stream:
                seen: Event = event
                print(seen.n, seen.t, seen.phone, seen.body)
        except EventsMissed as missed:
            print(missed.first, missed.last)
    reports: tuple[StopReport, ...] = herd.stop()
    print(reports)
