"""Lines for people, objects for programs."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from sipherd.protocol.events import (
    Answered,
    AnyBody,
    AudioOneWay,
    BehaviourEnded,
    BehaviourFailed,
    BehaviourStarted,
    CallCleanedUp,
    CallEnded,
    CallPlaced,
    CancelResolved,
    Confirmed,
    DtmfReceived,
    DtmfSent,
    Event,
    Held,
    HerdDraining,
    HerdReady,
    HerdReloaded,
    HerdStarted,
    HerdStopping,
    IncomingCall,
    MediaStats,
    NurseryDied,
    Overflow,
    PhoneAdded,
    PhoneDied,
    PhoneMoved,
    PhoneRemoved,
    PlayEnded,
    PortSkipped,
    Progress,
    RecordEnded,
    Referred,
    Registered,
    RegistrationFailed,
    Retrieved,
    RtpPairSkipped,
    SipTrace,
    TransferFailed,
    Transferred,
    Unregistered,
    flatten,
)
from sipherd.protocol.messages import CancelReport, PhoneInfo, StopReport
from sipherd.protocol.spec import PhoneSpec
from sipherd.protocol.states import PhoneState
from sipherd.render import (
    as_json,
    cancel_outcome,
    describe,
    duration,
    event_line,
    megabytes,
    memory,
    phone_line,
    printable,
    registration,
    severity,
    stop_line,
    table,
    why,
)


def event(body: AnyBody, **about: object) -> Event:
    given = {"phone": "alice", "incarnation": 1, "pid": 42} | about
    return Event(n=7, t=1.5, at=1_700_000_000.25, body=body, **given)  # type: ignore[arg-type]


READY, FAILED = PhoneState.READY, PhoneState.FAILED
INCOMING = IncomingCall(
    call="c2",
    sip_call_id="x",
    from_uri="sip:1001@127.0.0.1",
    from_display="",
    to_uri="sip:1002@127.0.0.1",
    request_uri="sip:1002@127.0.0.1",
    source=("127.0.0.1", 5060),
)


def placed(uri: str, hop: tuple[str, int] = ("127.0.0.1", 5062), target: str = "bob") -> CallPlaced:
    return CallPlaced(call="c1", target=target, sip_call_id="x", request_uri=uri, next_hop=hop)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (HerdStarted(herd="lab", pid=9), "lab started, supervisor pid 9"),
        (HerdReady(phones=1, seconds=0.0354), "1 phone ready in 35 ms"),
        (BehaviourStarted(name="watch", pid=9), "behaviour watch runs (pid 9)"),
        (BehaviourEnded(name="watch", why="returned"), "behaviour watch returned"),
        (BehaviourEnded(name="watch", why="stopped"), "behaviour watch ended with the phone"),
        (
            BehaviourFailed(name="watch", error="ValueError: boom", traceback="…"),
            "behaviour watch failed: ValueError: boom",
        ),
        (
            BehaviourFailed(name="watch", error="ValueError: x", traceback="…", is_loaded=False),
            "behaviour watch can't be loaded: ValueError: x",
        ),
        (HerdReady(phones=50, seconds=1.25), "50 phones ready in 1.2 s"),
        (
            HerdReady(phones=5, seconds=1.25, registered=3, not_registered=1),
            "5 phones ready in 1.2 s, 3 registered, 1 not: see sipherd ps",
        ),
        (
            Registered(registrar="pbx.lab", expires=60.0, refresh=False),
            "registered at pbx.lab for 1 m",
        ),
        (
            Registered(registrar="pbx.lab", expires=3600.0, refresh=True),
            "registered again at pbx.lab for 1 h",
        ),
        (
            RegistrationFailed(
                registrar="pbx.lab", cause="credentials", code=403, reason="Forbidden"
            ),
            "not registered at pbx.lab: wrong user name or password (403 Forbidden); "
            "not tried again until told to",
        ),
        (
            RegistrationFailed(registrar="pbx.lab", cause="no_response", retry_in=2.0),
            "not registered at pbx.lab: no response; again in 2.0 s",
        ),
        (
            RegistrationFailed(
                registrar="pbx.lab", cause="rejected", code=503, reason="Busy", retry_in=2.0
            ),
            "not registered at pbx.lab: 503 Busy; again in 2.0 s",
        ),
        (Unregistered(registrar="pbx.lab", confirmed=True), "unregistered at pbx.lab"),
        (
            Unregistered(registrar="pbx.lab", confirmed=False),
            "unregistered at pbx.lab, which did not answer",
        ),
        (Held(call="c1", by="local"), "c1 on hold, by us"),
        (Held(call="c1", by="remote"), "c1 on hold, by the far end"),
        (Retrieved(call="c1", by="remote"), "c1 retrieved, by the far end"),
        (
            Referred(call="c1", new_call="c2", target="sip:1003@pbx.lab", by="sip:1001@pbx.lab"),
            "c1 referred to sip:1003@pbx.lab by sip:1001@pbx.lab: c2",
        ),
        (Transferred(call="c1", target="1003"), "c1 transferred to 1003"),
        (
            TransferFailed(call="c1", target="1003", code=486, reason="Busy Here"),
            "c1 not transferred to 1003: 486 Busy Here",
        ),
        (TransferFailed(call="c1", target="1003"), "c1 not transferred to 1003: no answer"),
        (
            DtmfReceived(call="c1", digit="#", duration_ms=100, method="rfc4733"),
            "c1 key # (100 ms)",
        ),
        (
            DtmfReceived(call="c1", digit="5", duration_ms=0, method="info"),
            "c1 key 5 (SIP INFO)",
        ),
        (DtmfSent(call="c1", digits="12#", method="rfc4733"), "c1 keys sent: 12#"),
        (PlayEnded(call="c1", source="/a.wav", why="call_ended"), "c1 played /a.wav: call ended"),
        (
            RecordEnded(call="c1", file="/a.wav", seconds=2.0, why="stopped"),
            "c1 recorded 2.0 s to /a.wav",
        ),
        (
            RecordEnded(
                call="c1", file="/a.wav", seconds=2.0, why="failed", error="No space left on device"
            ),
            "c1 recorded 2.0 s to /a.wav: No space left on device",
        ),
        (AudioOneWay(call="c1", seconds=5.0), "c1 one-way audio: nothing was heard for 5.0 s"),
        (
            CallEnded(
                call="c1",
                cause="hung_up",
                by="local",
                media=MediaStats(sent=500, received=500, lost=2, jitter_ms=0.31, mos=4.41),
            ),
            "c1 ended: hung up; heard 500 of 502 packets, jitter 0.3 ms, MOS 4.4",
        ),
        (
            CallEnded(
                call="c1",
                cause="hung_up",
                by="local",
                media=MediaStats(sent=500, received=0, lost=0, one_way=True),
            ),
            "c1 ended: hung up; heard 0 of 0 packets, one-way audio",
        ),
        (
            HerdReloaded(added=("a", "b"), removed=("c",)),
            "herd file read again: 2 added, 1 removed, 0 changed",
        ),
        (HerdDraining(why="SIGUSR1", calls=1), "draining: SIGUSR1; no new calls, 1 call left"),
        (HerdStopping(why="Ctrl-C"), "stopping: Ctrl-C"),
        (
            NurseryDied(pid=9, cause="SIGKILL"),
            "nursery (pid 9) died: SIGKILL; phones go on, a new one is started",
        ),
        (
            PortSkipped(address="127.0.0.1", port=5062, why="in use by sipp (pid 9)"),
            "port 5062 on 127.0.0.1 skipped: in use by sipp (pid 9)",
        ),
        (
            PhoneAdded(number="1001", address="127.0.0.1", port=5060),
            "added: 1001 at 127.0.0.1:5060",
        ),
        (PhoneRemoved(), "removed"),
        (PhoneMoved(state=READY, previous=PhoneState.STARTING), "ready (pid 42)"),
        (PhoneMoved(state=FAILED, previous=READY, why="SIGSEGV"), "failed: SIGSEGV"),
        (
            PhoneDied(
                cause="SIGSEGV", uptime=12.3, state=READY, calls=("c1", "c2"), next_action="parked"
            ),
            "died: SIGSEGV, ready after 12.3 s, ended c1, c2; parked",
        ),
        (
            PhoneDied(cause="unknown", uptime=0.1, state=READY, calls=(), next_action="none"),
            "died: unknown, ready after 100 ms",
        ),
        (placed("sip:1002@127.0.0.1:5062"), "c1 calls bob, sip:1002@127.0.0.1:5062"),
        (
            placed("sip:1002@pbx.lab", ("192.0.2.7", 5060), "sip:1002@pbx.lab"),
            "c1 calls sip:1002@pbx.lab, by way of 192.0.2.7:5060",
        ),
        (INCOMING, "c2 incoming from sip:1001@127.0.0.1"),
        (Progress(call="c1", code=180, reason="Ringing", early_media=False), "c1 180 Ringing"),
        (
            Progress(call="c1", code=183, reason="", early_media=True),
            "c1 183, early media",
        ),
        (Answered(call="c1", code=200, remote_media=None, codec=""), "c1 answered"),
        (Answered(call="c1", code=200, remote_media=None, codec="PCMU"), "c1 answered, PCMU"),
        (Confirmed(call="c2"), "c2 answer acknowledged"),
        (
            CancelResolved(call="c1", outcome="already_ended", code=486),
            "c1 cancel: ended before the CANCEL had an effect (486)",
        ),
        (CallEnded(call="c1", cause="hung_up", by="local"), "c1 ended: hung up"),
        (CallEnded(call="c1", cause="hung_up", by="remote"), "c1 ended: hung up by the far end"),
        (
            CallEnded(call="c1", cause="rejected", by="remote", code=486, reason="Busy Here"),
            "c1 ended: rejected by the far end: 486 Busy Here",
        ),
        (CallEnded(call="c1", cause="no_answer", by="timeout"), "c1 ended: no answer"),
        (
            CallEnded(call="c1", cause="stopped", by="local", bye_answered=False),
            "c1 ended: stopped, its BYE was not answered",
        ),
        (
            CallCleanedUp(sip_call_id="abc@h", how="bye"),
            "ended at its far end, too, after the crash (BYE answered): abc@h",
        ),
        (Overflow(call="c3", waiting=4), "c3 refused, 4 calls wait for a client already"),
        (RtpPairSkipped(port=20000, why="in use"), "RTP port 20000 skipped: in use"),
        (
            SipTrace(
                direction="in",
                first_line="SIP/2.0 200 OK",
                cseq="1 BYE",
                sip_call_id="x",
                peer=("127.0.0.1", 5062),
                size=300,
            ),
            "sip from 127.0.0.1:5062: SIP/2.0 200 OK (1 BYE)",
        ),
        (
            SipTrace(
                direction="out",
                first_line="BYE sip:x@[::1]:5062 SIP/2.0",
                cseq="2 BYE",
                sip_call_id="x",
                peer=("::1", 5062),
                transport="tcp",
                size=300,
            ),
            "sip to [::1]:5062 by TCP: BYE sip:x@[::1]:5062 SIP/2.0",
        ),
    ],
)
def test_what_happened(body: AnyBody, text: str) -> None:
    assert describe(event(body)) == text
    assert severity(body) in ("detail", "normal", "good", "warning", "bad")


def test_a_later_incarnation_is_told() -> None:
    moved = PhoneMoved(state=READY, previous=PhoneState.STARTING)
    assert describe(event(moved, incarnation=2)) == "ready (pid 42, incarnation 2)"


def test_a_line_has_time_and_phone() -> None:
    line = event_line(event(Confirmed(call="c2")))
    assert line.endswith(".250  alice       c2 answer acknowledged")
    assert event_line(event(HerdStopping(why="x"), phone="")).split()[1] == "herd"


def test_colour_is_asked_for() -> None:
    died = PhoneDied(cause="x", uptime=0.1, state=READY, calls=(), next_action="parked")
    assert "\x1b" not in event_line(event(died))
    assert "\x1b[31m" in event_line(event(died), colour=True)


def test_a_peer_can_not_write_to_the_terminal() -> None:
    line = event_line(
        event(Progress(call="c1", code=180, reason="\x1b[2J\r\n!", early_media=False))
    )
    assert line.endswith(r"c1 180 \x1b[2J\r\n!")
    assert printable("Bob from Köln") == "Bob from Köln"


def test_json_is_flat_and_one_line() -> None:
    line = as_json(flatten(event(INCOMING)))
    assert "\n" not in line
    read = json.loads(line)
    assert (read["kind"], read["n"], read["call"], read["phone"]) == ("incoming", 7, "c2", "alice")
    assert read["source"] == ["127.0.0.1", 5060]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0354, "35 ms"),
        (1.0, "1.0 s"),
        (59.9, "59.9 s"),
        (60.0, "1 m"),
        (200.5, "3 m 20 s"),
        (3600, "1 h"),
        (5 * 3600 + 7 * 60 + 3, "5 h 7 m"),
        (2 * 86400 + 4 * 3600, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_memory() -> None:
    size = memory(os.getpid())
    assert size is not None
    assert size > 1_000_000
    assert memory(2**22 + 1) is None  # above the kernel's largest pid
    assert megabytes(7_340_000) == "7.3 MB"
    assert megabytes(None) == ""


def test_table() -> None:
    rows = [("alice", 5060, ""), ("a-longer-name", 7, "\t")]
    assert table(["NAME", "PORT", "WHY"], rows, right=["PORT"]).splitlines() == [
        "NAME           PORT  WHY",
        "alice          5060",
        r"a-longer-name     7  \t",
    ]


def test_a_table_leaves_out_empty_columns() -> None:
    assert table(["NAME", "WHY"], [("alice", ""), ("bob", "")]) == "NAME\nalice\nbob"
    assert table(["NAME", "WHY"], []) == "NAME  WHY"


def test_a_phone_that_changed() -> None:
    spec = PhoneSpec(name="alice", number="1001")
    info = PhoneInfo(
        name="alice",
        number="1001",
        state=READY,
        activity="idle",
        address="127.0.0.1",
        port=5060,
        pid=42,
        spec=spec,
    )
    assert phone_line(info) == "alice ready: 1001 at 127.0.0.1:5060, pid 42"


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"state": FAILED, "why": "SIGSEGV"}, "SIGSEGV"),
        (
            {"state": PhoneState.BACKOFF, "why": "SIGSEGV", "retry_in": 0.4},
            "SIGSEGV, again in 400 ms",
        ),
        ({"state": READY}, ""),
    ],
)
def test_why_a_phone_does_not_serve(about: dict[str, Any], words: str) -> None:
    info = PhoneInfo(
        name="a", number="1", activity="", address="::1", port=1, spec=PhoneSpec(name="a"), **about
    )
    assert why(info) == words
    assert (f" ({words})" in phone_line(info)) is bool(words)


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (StopReport(phone="bob", how="drained", seconds=0.25), "bob stopped (250 ms)"),
        (StopReport(phone="bob", how="not_running", seconds=0.0), "bob was not running"),
        (
            StopReport(phone="bob", how="terminated", seconds=5.5, unanswered_byes=("c1", "c2")),
            "bob stopped by SIGTERM, it did not end its calls in time (5.5 s), "
            "BYE not answered: c1, c2",
        ),
    ],
)
def test_how_a_phone_went(report: StopReport, text: str) -> None:
    assert stop_line(report) == text


def test_outcome_of_a_cancellation() -> None:
    report = CancelReport(call="c7", outcome="cancelled")
    assert cancel_outcome(report) == "c7 cancelled"


@pytest.mark.parametrize(
    ("about", "text"),
    [
        ({}, ""),
        ({"registration": "registering"}, "registering"),
        ({"registration": "registered", "registration_expires": 48.0}, "registered, 48.0 s left"),
        (
            {"registration": "failed", "registration_why": "403 Forbidden"},
            "failed: 403 Forbidden",
        ),
        (
            {
                "registration": "failed",
                "registration_why": "no response",
                "registration_retry": 2.0,
                "registration_expires": 30.0,
            },
            "failed: no response, again in 2.0 s",
        ),
    ],
)
def test_a_registration_in_words(about: dict[str, Any], text: str) -> None:
    info = PhoneInfo(
        name="a",
        number="a",
        state=READY,
        activity="idle",
        address="127.0.0.1",
        port=5060,
        spec=PhoneSpec(name="a"),
        **about,
    )
    assert registration(info) == text
