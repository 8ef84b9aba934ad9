"""The scenario files notice what they claim to notice.

SIPp matches by Call-ID alone, so a scenario proves only what it checks itself. Each one is played
here against a party that does everything right, which must pass, and once for every fault against
a party that does exactly that one thing wrong, which must fail.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from peers.baresip import Baresip
from peers.scripted import Callee, Caller, Member, Silence, described
from peers.sipp import SCENARIOS, Sipp, loopback_address, wait_for

Fault = tuple[str, str]
StartSipp = Callable[..., Sipp]


def faults(**fields_of: str) -> list[Fault | None]:
    """None, and every (method or code, field): ``faults(ACK="uri cseq")``."""
    named = [
        (where.lstrip("_").replace("_", " "), what)
        for where, fields in fields_of.items()
        for what in fields.split()
    ]
    return [None, *named]


def is_noticed_in_vain(scenario: str, fault: Fault | None) -> bool:
    """Whether SIPp notices it by waiting for a message that does not come.

    So it is where one is missing, and where a check stands before a jump: SIPp goes on there.
    """
    return fault is not None and (fault[1] == "once" or scenario.endswith("_challenges"))


def patience(scenario: str, fault: Fault | None) -> float:
    """Seconds SIPp waits."""
    return 2 if is_noticed_in_vain(scenario, fault) else 20


# What each kind of caller does. SIPp is the callee; a party that is refused gets silence.


def calls(caller: Caller) -> None:
    caller.invite()
    leg = caller.leg(caller.receive("200"))
    caller.ack_2xx(leg)
    caller.bye(leg)
    caller.receive("200")


def calls_and_is_rejected(caller: Caller) -> None:
    caller.invite()
    caller.ack_rejection(caller.receive("404", "486", "603"))


def rings_and_cancels(caller: Caller) -> None:
    caller.invite()
    caller.receive("180")
    caller.cancel()
    caller.receive("200")
    caller.ack_rejection(caller.receive("487", "486"))


def cancels_too_early(caller: Caller) -> None:
    caller.invite()
    if caller.fault == ("CANCEL", "early"):
        caller.cancel()
        return
    caller.receive("180")
    caller.cancel()
    caller.receive("200")
    caller.ack_rejection(caller.receive("487"))


def cancels_an_answered_call(caller: Caller) -> None:
    caller.invite()
    caller.receive("180")
    caller.cancel()
    caller.receive("200")
    leg = caller.leg(caller.receive("200"))
    caller.ack_2xx(leg)
    caller.bye(leg)
    caller.receive("200")


def repeats_the_bye(caller: Caller) -> None:
    caller.invite()
    leg = caller.leg(caller.receive("200"))
    caller.ack_2xx(leg)
    caller.bye(leg)
    if caller.fault != ("BYE", "once"):
        caller.repeat()
    caller.receive("200")


def acknowledges_twice(caller: Caller) -> None:
    caller.invite()
    leg = caller.leg(caller.receive("200"))
    caller.ack_2xx(leg)
    caller.receive("200")
    if caller.fault != ("ACK", "once"):
        caller.repeat()
    caller.bye(leg)
    caller.receive("200")


def ends_the_other_branch(caller: Caller) -> None:
    caller.invite()
    first = caller.leg(caller.receive("200"))
    caller.ack_2xx(first)
    other = caller.leg(caller.receive("200"))
    caller.ack_2xx(first if caller.fault == ("ACK", "leg") else other)
    caller.bye(first if caller.fault == ("BYE", "leg") else other)
    caller.receive("200")
    caller.bye(first)
    caller.receive("200")


def is_hung_up_on(caller: Caller) -> None:
    caller.invite()
    caller.ack_2xx(caller.leg(caller.receive("200")))
    caller.respond(caller.receive("BYE"), 200)


def says_too_much(caller: Caller) -> None:
    """Cancels, early or late, and does not leave it at that."""
    caller.invite()
    if caller.fault == ("CANCEL", "early"):
        caller.cancel()
        return
    caller.receive("180")
    caller.cancel()
    caller.ack_rejection(caller.receive("200", "481"))


def acknowledges_the_ringing(caller: Caller) -> None:
    caller.invite("Supported: 100rel")
    leg = caller.leg(caller.receive("183"))
    caller.request(leg, "PRACK", "RAck: 4711 7 INVITE")
    caller.receive("200")
    caller.receive("200")
    caller.ack_2xx(leg)
    caller.bye(leg)
    caller.receive("200")


def holds_and_retrieves(caller: Caller) -> None:
    caller.invite(body=described("sendrecv"))
    leg = caller.leg(caller.receive("200"))
    caller.ack_2xx(leg)
    for version, (name, direction) in enumerate([("hold", "sendonly"), ("back", "sendrecv")], 2):
        invite = caller.request(leg, "INVITE", body=described(direction, version), known_as=name)
        caller.receive("200")
        caller.ack(leg, invite, known_as=f"{name} ack")
    caller.bye(leg)
    caller.receive("200")


def holds_and_leaves(caller: Caller) -> None:
    caller.invite(body=described("sendrecv"))
    leg = caller.leg(caller.receive("200"))
    caller.ack_2xx(leg)
    invite = caller.request(leg, "INVITE", body=described("sendonly", 2), known_as="hold")
    caller.receive("200")
    caller.ack(leg, invite, known_as="hold ack")
    caller.leave_out(100)
    caller.bye(leg)
    caller.receive("200")


def sends_another_bye(caller: Caller) -> None:
    caller.invite()
    leg = caller.leg(caller.receive("200"))
    caller.ack_2xx(leg)
    caller.bye(leg)
    caller.leave_out(100)
    caller.request(leg, "BYE", known_as="second")
    caller.receive("200")


def crosses_the_reinvite(caller: Caller) -> None:
    caller.invite()
    leg = caller.leg(caller.receive("200"))
    caller.ack_2xx(leg)
    first = caller.request(leg, "INVITE", body=described("sendonly", 2), known_as="first")
    code = 200 if caller.fault == ("491", "code") else 491
    caller.respond(caller.receive("INVITE"), code)
    caller.receive("491")
    caller.ack(leg, first, known_as="refused ack", refused=True)
    second = caller.request(leg, "INVITE", body=described("sendonly", 2), known_as="second")
    caller.receive("200")
    caller.ack(leg, second, known_as="second ack")
    caller.bye(leg)
    caller.receive("200")


def refreshes(caller: Caller) -> None:
    caller.invite("Supported: timer")
    leg = caller.leg(caller.receive("200"))
    caller.ack_2xx(leg)
    offer = described("sendrecv") if caller.fault == ("UPDATE", "offer") else ""
    caller.request(leg, "UPDATE", "Session-Expires: 10;refresher=uac", body=offer)
    caller.receive("200")
    caller.bye(leg)
    caller.receive("200")


def refers_to(target: str) -> Callable[[Caller], None]:
    def play(caller: Caller) -> None:
        caller.invite()
        leg = caller.leg(caller.receive("200"))
        caller.ack_2xx(leg)
        wrong = caller.fault == ("REFER", "target")
        uri = "sip:dave@127.0.0.1:5999" if wrong else target
        caller.request(leg, "REFER", f"Refer-To: <{uri}>", "Referred-By: <sip:caller@127.0.0.1>")
        caller.receive("202")
        for _ in range(2):
            caller.respond(caller.receive("NOTIFY"), 200)
        caller.bye(leg)
        caller.receive("200")

    return play


def presses_two_keys(caller: Caller) -> None:
    caller.invite()
    leg = caller.leg(caller.receive("200"))
    caller.ack_2xx(leg)
    keys = "#1" if caller.fault == ("INFO", "order") else "1#"
    for key, name in zip(keys, ("INFO", "second"), strict=True):
        body = f"Signal={key}\r\nDuration=160\r\n"
        caller.request(leg, "INFO", body=body, content_type="application/dtmf-relay", known_as=name)
        caller.receive("200")
    caller.bye(leg)
    caller.receive("200")


def answers_challenges(caller: Member) -> None:
    caller.invite()
    caller.ack_rejection(caller.receive("401"))
    caller.invite_again("one")
    leg = caller.leg(caller.receive("200"))
    caller.ack_as_alice(leg)
    caller.bye_as_alice(leg, "one", 2)
    caller.receive("401")
    caller.bye_as_alice(leg, "two", 1, "BYE again")
    caller.receive("200")


def registers(member: Member) -> None:
    member.register("first", 30)
    member.receive("401")
    nonce = "zero" if member.fault == ("answer", "choice") else "one"
    member.register("answer", 30, nonce, 1)
    member.receive("423")
    member.register("longer", 30 if member.fault == ("longer", "expires") else 45, "one", 2)
    member.receive("401")
    member.register("stale", 45, "two", 1)
    member.receive("200")
    member.register("end", 0, "two", 2)
    member.receive("200")


CAROL = "sip:carol@127.0.0.1:5999"
IN_DIALOG = "uri branch from_tag to_tag cseq"
CALLERS: dict[str, tuple[Callable[[Member], None], list[Fault | None]]] = {
    "callee_answers": (calls, faults(INVITE="to_tag", ACK=IN_DIALOG, BYE=IN_DIALOG)),
    "callee_answers_at_once": (calls, faults(ACK=IN_DIALOG, BYE=IN_DIALOG)),
    "callee_answers_after_silence": (calls, faults()),
    "callee_behind_proxies": (calls, faults(ACK="routes uri", BYE="routes uri")),
    "callee_rejects_404": (calls_and_is_rejected, faults(ACK="branch to_tag")),
    "callee_rejects_486": (calls_and_is_rejected, faults(ACK=IN_DIALOG)),
    "callee_rejects_603": (calls_and_is_rejected, faults(ACK="branch to_tag")),
    "callee_rings_until_cancel": (rings_and_cancels, faults(CANCEL=IN_DIALOG, ACK=IN_DIALOG)),
    "callee_rejects_despite_cancel": (rings_and_cancels, faults(CANCEL="branch", ACK="branch")),
    "callee_waits_before_ringing": (cancels_too_early, faults(CANCEL="early branch")),
    "callee_answers_despite_cancel": (
        cancels_an_answered_call,
        faults(CANCEL="branch", ACK=IN_DIALOG, BYE=IN_DIALOG),
    ),
    "callee_ignores_first_bye": (repeats_the_bye, faults(BYE="once", BYE_again="branch to_tag")),
    "callee_repeats_200": (acknowledges_twice, faults(ACK="once to_tag", ACK_again="to_tag cseq")),
    "callee_hangs_up": (is_hung_up_on, faults(ACK="to_tag", _200="from_tag cseq")),
    # Those who pass take 33 s and have their place in the outcomes of a cancellation.
    "callee_silent": (says_too_much, [("CANCEL", "early")]),
    "callee_no_final_after_cancel": (says_too_much, [("ACK", "sent")]),
    "callee_481_to_cancel": (says_too_much, [("ACK", "sent")]),
    "callee_rings_reliably": (
        acknowledges_the_ringing,
        faults(INVITE="Supported", PRACK=f"{IN_DIALOG} RAck", ACK="cseq to_tag", BYE="cseq"),
    ),
    "callee_is_held": (
        holds_and_retrieves,
        faults(
            hold=f"{IN_DIALOG} direction version",
            hold_ack="cseq to_tag",
            back="direction version cseq",
            back_ack="cseq",
        ),
    ),
    "callee_is_held_and_left": (
        holds_and_leaves,
        faults(hold="to_tag cseq direction", hold_ack="cseq", BYE=f"{IN_DIALOG} gap"),
    ),
    "callee_gets_two_byes": (
        sends_another_bye,
        faults(ACK="to_tag", BYE="cseq to_tag", second=f"{IN_DIALOG} gap"),
    ),
    "callee_glares": (
        crosses_the_reinvite,
        faults(
            first="direction to_tag", _491="code", refused_ack="branch cseq", second="direction"
        ),
    ),
    "callee_wants_refresh": (
        refreshes,
        faults(INVITE="Supported", UPDATE=f"{IN_DIALOG} Session-Expires offer"),
    ),
    "callee_is_referred": (
        refers_to(CAROL),
        faults(REFER=f"{IN_DIALOG} Refer-To Referred-By Contact target"),
    ),
    "callee_is_referred_to_a_call": (
        refers_to(f"{CAROL}?Replaces=1%40h%3Bto-tag%3Da%3Bfrom-tag%3Db"),
        faults(REFER="to_tag target"),
    ),
    "callee_gets_keys": (
        presses_two_keys,
        faults(INFO=f"{IN_DIALOG} Content-Type order", second="cseq"),
    ),
    "callee_challenges": (
        answers_challenges,
        faults(
            ACK="branch extra",
            INVITE_again="branch to_tag cseq response nc",
            BYE="cseq response nc",
            BYE_again="branch nonce",
        ),
    ),
    "registrar_challenges": (
        registers,
        faults(
            first="uri",
            answer="branch from_tag contact cseq choice response qop opaque",
            longer="expires nc",
            stale="cseq nonce",
            end="star contact response",
        ),
    ),
    "callee_forks": (ends_the_other_branch, faults(ACK="leg", BYE="leg")),
}


# What each kind of callee does. SIPp is the caller.


def answers(callee: Callee) -> None:
    invite = callee.receive("INVITE")
    callee.respond(invite, 180)
    callee.respond(invite, 200, answer=True)
    callee.receive("ACK")
    bye = callee.receive("BYE")
    callee.respond(bye, 200)


def answers_and_hangs_up(callee: Callee) -> None:
    invite = callee.receive("INVITE")
    callee.respond(invite, 180)
    callee.respond(invite, 200, answer=True)
    callee.receive("ACK")
    callee.bye(invite)
    callee.receive("200")


def answers_questions(callee: Callee) -> None:
    invite = callee.receive("INVITE")
    callee.respond(invite, 180)
    callee.respond(invite, 200, answer=True)
    callee.receive("ACK")
    for method, code in (("INFO", 200), ("MESSAGE", 200), ("OPTIONS", 200), ("NOTIFY", 481)):
        callee.respond(callee.receive(method), code, extra=("Allow: INVITE, ACK, BYE",))
    callee.respond(callee.receive("BYE"), 200)


NEW_CALL = "taken for a new call"


def copes_with_copies(callee: Callee) -> None:
    invite = callee.receive("INVITE")
    callee.respond(invite, 180)
    for _ in range(2):
        callee.respond(callee.receive("INVITE"), 180)
    callee.respond(invite, 200, answer=True)
    callee.receive("INVITE")
    if callee.fault != ("200", "once"):
        callee.respond(invite, 200, answer=True)
    callee.receive("ACK")
    copy = callee.receive("INVITE")
    if callee.fault == ("INVITE", NEW_CALL):
        callee.respond(copy, 180)
    callee.respond(callee.receive("BYE"), 200)


def gives_up_on_the_ack(callee: Callee) -> None:
    invite = callee.receive("INVITE")
    callee.respond(invite, 180)
    callee.respond(invite, 200, answer=True)
    callee.bye(invite)
    callee.receive("200")


def is_cancelled(callee: Callee) -> None:
    invite = callee.receive("INVITE")
    callee.respond(invite, 180)
    callee.respond(callee.receive("CANCEL"), 200)
    callee.respond(invite, 487)
    callee.receive("ACK")


def rejects_with(code: int, *, ring: bool = False) -> Callable[[Callee], None]:
    def play(callee: Callee) -> None:
        invite = callee.receive("INVITE")
        if ring:
            callee.respond(invite, 180)
        callee.respond(invite, code, extra=("Unsupported: frobnication",))
        callee.receive("ACK")

    return play


def responds_to(method: str, code: int) -> Callable[[Callee], None]:
    def play(callee: Callee) -> None:
        request = callee.receive(method)
        callee.respond(request, code, extra=("Allow: INVITE, ACK, CANCEL, BYE, OPTIONS",))

    return play


def rings_reliably(callee: Callee) -> None:
    invite = callee.receive("INVITE")
    callee.respond(invite, 180, extra=("Require: 100rel", "RSeq: 5"))
    callee.respond(callee.receive("PRACK"), 200, known_as="200 to PRACK")
    callee.respond(invite, 200, answer=True)
    callee.receive("ACK")
    callee.respond(callee.receive("BYE"), 200)


def takes(callee: Callee) -> Callee:
    """Answers the call."""
    callee.invite = callee.receive("INVITE")
    callee.respond(callee.invite, 180)
    callee.respond(callee.invite, 200, answer=True)
    callee.receive("ACK")
    return callee


def follows_updates(callee: Callee) -> None:
    takes(callee)
    answer = described("recvonly", 2)
    callee.respond(callee.receive("UPDATE"), 200, body=answer, known_as="held")
    late = answer if callee.fault == ("same", "offer") else ""
    callee.respond(callee.receive("UPDATE"), 200, body=late, known_as="same")
    callee.respond(callee.receive("BYE"), 200)


def is_transferred(callee: Callee) -> None:
    takes(callee)
    callee.respond(callee.receive("REFER"), 202)
    news = [("active;expires=60", "100 Trying"), ("active;expires=60", "180 Ringing")]
    code = "486 Busy Here" if callee.fault == ("NOTIFY", "result") else "200 OK"
    for state, status in [*news, ("terminated;reason=noresource", code)]:
        callee.request(
            callee.invite,
            "NOTIFY",
            "Event: refer",
            f"Subscription-State: {state}",
            body=f"SIP/2.0 {status}\r\n",
            content_type="message/sipfrag",
        )
        callee.receive("200")
    callee.respond(callee.receive("BYE"), 200)


def hears_keys(callee: Callee) -> None:
    takes(callee)
    for code in (200, 200, 415):
        callee.respond(callee.receive("INFO"), code, known_as=f"{code} to INFO")
    callee.respond(callee.receive("BYE"), 200)


def hangs_up_with_a_gap(callee: Callee) -> None:
    callee.leave_out(100)
    callee.bye(callee.invite)
    callee.receive("200")


def dies_before_the_ack(callee: Callee) -> None:
    hangs_up_with_a_gap(takes(callee))


def dies_after_a_reinvite(callee: Callee) -> None:
    takes(callee)
    answer = described("recvonly", 2)
    callee.respond(callee.receive("INVITE"), 200, body=answer, known_as="held")
    callee.receive("ACK")
    hangs_up_with_a_gap(callee)


def dies_after_a_key(callee: Callee) -> None:
    takes(callee)
    callee.respond(callee.receive("INFO"), 200, known_as="200 to INFO")
    hangs_up_with_a_gap(callee)


def is_replaced(callee: Callee) -> None:
    takes(callee)
    second = callee.receive("INVITE")
    if callee.fault == ("180", "sent"):
        callee.respond(second, 180)
    callee.respond(second, 200, answer=True, known_as="second")
    ended = second if callee.fault == ("BYE", "dialog") else callee.invite
    callee.bye(ended)
    callee.receive("200")
    callee.respond(callee.receive("BYE"), 200, known_as="last")


ECHOED = "branch from_tag cseq"
CALLEES: dict[str, tuple[Callable[[Callee], None], list[Fault | None]]] = {
    "caller_calls": (
        answers,
        faults(_180=f"{ECHOED} no_to_tag", _200=f"{ECHOED} no_to_tag to_tag contact body"),
    ),
    "caller_asks_in_a_call": (
        answers_questions,
        faults(_200="Allow", _481=ECHOED),
    ),
    "caller_offers_late": (answers, faults(_200="to_tag body")),
    "caller_is_hung_up_on": (answers_and_hangs_up, faults(BYE="uri from_tag to_tag")),
    "caller_acks_late": (dies_before_the_ack, faults(BYE="uri from_tag to_tag gap")),
    "caller_holds_and_is_left": (
        dies_after_a_reinvite,
        faults(held="cseq", BYE="uri from_tag to_tag gap"),
    ),
    "caller_presses_a_key_and_is_left": (
        dies_after_a_key,
        faults(_200_to_INFO="cseq", BYE="uri from_tag to_tag gap"),
    ),
    "caller_never_acks": (gives_up_on_the_ack, faults(BYE="from_tag to_tag")),
    "caller_repeats_invite": (
        copes_with_copies,
        [None, ("180", "branch"), ("200", "to_tag"), ("200", "once"), ("INVITE", NEW_CALL)],
    ),
    "caller_cancels": (is_cancelled, faults(_200="branch to_tag", _487=f"{ECHOED} to_tag")),
    "caller_was_answered_elsewhere": (is_cancelled, faults(_200="branch", _487="to_tag")),
    "caller_gets_480": (rejects_with(480, ring=True), faults(_480=f"{ECHOED} to_tag")),
    "caller_gets_486": (rejects_with(486), faults(_486=f"{ECHOED} no_to_tag")),
    "caller_requires_unknown_extension": (rejects_with(420), faults(_420="branch Unsupported")),
    "caller_asks_options": (responds_to("OPTIONS", 200), faults(_200=f"{ECHOED} Allow no_to_tag")),
    "caller_sends_unknown_method": (responds_to("FROBNICATE", 405), faults(_405="Allow branch")),
    "caller_byes_without_dialog": (responds_to("BYE", 481), faults(_481="branch")),
    "caller_requires_100rel": (
        rings_reliably,
        faults(_180="branch Require RSeq", _200_to_PRACK="branch cseq", _200="to_tag"),
    ),
    "caller_updates": (
        follows_updates,
        faults(held="direction branch cseq contact", same="branch offer"),
    ),
    "caller_refers": (
        is_transferred,
        faults(
            _202="branch cseq contact",
            NOTIFY="from_tag to_tag Event Subscription-State Content-Type result",
        ),
    ),
    "caller_presses_keys": (
        hears_keys,
        faults(_200_to_INFO="branch cseq", _415_to_INFO="branch cseq"),
    ),
    "caller_replaces": (
        is_replaced,
        faults(_180="sent", second="branch contact", BYE="from_tag to_tag dialog", last="branch"),
    ),
    "caller_cancels_nothing": (responds_to("CANCEL", 481), faults(_481="branch")),
}


#: Faults that are tried at the same time: most of it is waiting.
AT_ONCE = 16

Try = Callable[[Fault | None], None]


def each(known: list[Fault | None], attempt: Try) -> None:
    """Try every fault, several at a time.  Raises what the first of them raised."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tries = [pool.submit(attempt, fault) for fault in known]
    for done in tries:
        done.result()


def judge(sipp: Sipp, scenario: str, fault: Fault | None, play: Callable[[], None]) -> None:
    """What is right passes, what is wrong does not."""
    if fault is None:
        play()
        sipp.passes(25)
        return
    with contextlib.suppress(Silence):
        play()
    assert sipp.wait(25) != 0, f"{scenario} did not notice {fault}\n{sipp.report()}"
    assert is_noticed_in_vain(scenario, fault) or sipp.failed_checks(), sipp.report()


@pytest.mark.parametrize("scenario", CALLERS)
def test_callee_scenario(start_sipp: StartSipp, scenario: str) -> None:
    play, known = CALLERS[scenario]

    def attempt(fault: Fault | None) -> None:
        sipp = start_sipp(scenario, timeout=patience(scenario, fault))
        caller = Member(loopback_address(), (sipp.address, sipp.port), fault)
        with contextlib.closing(caller):
            judge(sipp, scenario, fault, lambda: play(caller))

    each(known, attempt)


@pytest.mark.parametrize("scenario", CALLEES)
def test_caller_scenario(start_sipp: StartSipp, scenario: str) -> None:
    play, known = CALLEES[scenario]

    def attempt(fault: Fault | None) -> None:
        callee = Callee(loopback_address(), fault)
        with contextlib.closing(callee):
            sipp = start_sipp(
                scenario,
                target=(callee.address, callee.port),
                timeout=patience(scenario, fault),
                options=("-key", "target_uri", CAROL),
            )
            judge(sipp, scenario, fault, lambda: play(callee))

    each(known, attempt)


@pytest.mark.parametrize(
    "scenario",
    [
        "callee_answers",
        "callee_answers_at_once",
        "callee_behind_proxies",
        "callee_hangs_up",
        "callee_rejects_486",
        "callee_repeats_200",
        "callee_rings_until_cancel",
    ],
)
def test_baresip_passes(start_sipp: StartSipp, bob: Baresip, scenario: str) -> None:
    """An ordinary user agent is found right: the checks are not stricter than SIP is."""
    sipp = start_sipp(scenario)
    bob.dial(sipp.uri)
    if scenario == "callee_rings_until_cancel":
        bob.wait_event("CALL_RINGING")
        bob.hang_up()
    elif scenario == "callee_repeats_200":
        wait_for(lambda: len(sipp.received("ACK")) == 2, "a second ACK")
        bob.hang_up()
    elif "rejects" not in scenario:
        bob.wait_event("CALL_ESTABLISHED")
        if scenario != "callee_hangs_up":
            bob.hang_up()
    sipp.passes()


def test_every_scenario_says_what_it_proves_and_is_tested() -> None:
    assert {path.stem for path in SCENARIOS.glob("*.xml")} == CALLERS.keys() | CALLEES.keys()
    for path in SCENARIOS.glob("*.xml"):
        head = path.read_text().partition("<scenario")[0]
        assert "Proves" in head, path.name
