"""Registration, by hand-written answers and against a registrar that is a fake."""

import pytest
from fakeregistrar import CONTACT, KEY, SERVER, Day, FakeRegistrar, register_config
from sipwire import ALICE, MEDIA, REPEATS, Hand, lines, reply, sends

from sipherd.worker.sip.engine import Engine
from sipherd.worker.stack import (
    CommandEnded,
    Hop,
    Registered,
    Registrar,
    RegistrationFailed,
    Send,
    SlotWanted,
    StackRefusal,
    Unregistered,
)

CHALLENGE = 'WWW-Authenticate: Digest realm="lab.test", nonce="n{}", qop="auth"{}'


class Desk(Hand):
    """A phone with a registrar that answers by hand; its jitter is always the same."""

    def __init__(self, jitter=0.0, **config):
        super().__init__()
        numbers = iter(range(1, 10**6))
        self.engine = Engine(register_config(**config), lambda: f"t{next(numbers)}", lambda: jitter)

    def register(self, command=0):
        """Ask for it and get the slot; returns the REGISTER."""
        outputs = self.take(self.engine.register(command, self.now))
        assert SlotWanted() in outputs
        return self.slot()

    def slot(self):
        (request,) = sends(self.take(self.engine.take_slot(self.now)))
        return request

    def answer(self, request, code=200, *extra):
        if code == 200 and not extra:
            extra = (f"Contact: <{CONTACT}>;expires=3600",)
        return self.receive(reply(request, code, extra=extra), SERVER)

    def due(self):
        """Seconds until the next slot is asked for."""
        start = self.now
        while SlotWanted() not in self.advance(0.5):
            assert self.now < start + 10**6
        return self.now - start

    def ends(self):
        """Numbers of the commands that have ended, with the refusal's reason."""
        return [
            (end.command, end.refusal.reason if end.refusal else "")
            for end in self.reported(CommandEnded)
        ]


# The request


def test_what_a_register_says():
    """RFC 3261 10.2."""
    desk = Desk()
    request = desk.register()
    assert (request.method, request.uri) == ("REGISTER", "sip:lab.test")
    assert request.to.uri == request.from_.uri == "sip:1001@lab.test"
    assert request.from_.tag
    assert not request.to.tag
    assert request.headers["Contact"] == f"<{CONTACT}>;expires=3600"
    assert request.headers["Expires"] == "3600"
    assert request.headers["CSeq"] == "1 REGISTER"
    assert request.headers["Max-Forwards"] == "70"
    assert not request.headers.fields("Route")
    (sent,) = desk.reported(Send)
    assert sent.destination == SERVER


def test_one_call_id_and_rising_numbers_for_all_of_them():
    desk = Desk()
    first = desk.register()
    (second,) = sends(desk.answer(first, 401, CHALLENGE.format(1, "")))
    desk.answer(second)
    third = desk.register()
    assert first.call_id == second.call_id == third.call_id
    assert [m.cseq.number for m in (first, second, third)] == [1, 2, 3]
    assert len({m.via.branch for m in (first, second, third)}) == 3
    # Another process is another Call-ID, or its low numbers would be refused.
    config = register_config()
    assert Engine(config)._registration._call_id != Engine(config)._registration._call_id


def test_through_a_proxy():
    desk = Desk(proxy="192.0.2.9:5080")
    request = desk.register()
    assert request.uri == "sip:lab.test"
    assert request.headers.fields("Route") == ["<sip:192.0.2.9:5080;lr>"]
    assert desk.reported(Send)[0].destination == Hop("192.0.2.9", 5080)


@pytest.mark.parametrize(
    ("server", "transport", "hop"),
    [
        ("pbx.lab", "udp", Hop("pbx.lab", None)),
        ("pbx.lab:5070", "udp", Hop("pbx.lab", 5070)),
        ("192.0.2.8:5070", "tcp", Hop("192.0.2.8", 5070, "tcp")),
    ],
)
def test_the_server_is_where_it_goes_whatever_the_domain(server, transport, hop):
    registrar = Registrar(server=server, aor="sip:1001@lab.test", expires=60)
    desk = Desk(registrar=registrar, transport=transport)
    request = desk.register()
    assert desk.reported(Send)[0].destination == hop
    assert request.uri == "sip:lab.test"
    assert ("transport=tcp" in request.contact.uri) is (transport == "tcp")


def test_calls_are_made_under_the_address_of_record_and_reached_at_the_contact():
    desk = Desk(display_name="Alice")
    invite = desk.place()
    assert invite.from_.uri == "sip:1001@lab.test"
    assert invite.from_.display == "Alice"
    assert invite.contact.uri == CONTACT


@pytest.mark.parametrize(
    ("target", "direct", "hop"),
    [
        ("sip:1002@lab.test", False, SERVER),
        ("sip:1002@LAB.test:5060", False, SERVER),
        ("sip:1002@lab.test", True, Hop("lab.test", None)),
        ("sip:1002@192.0.2.2:5062", False, Hop("192.0.2.2", 5062)),
        # The same machine, another party.
        ("sip:1002@lab.test:5062", False, Hop("lab.test", 5062)),
        ("sip:1002@lab.test;transport=tcp", False, Hop("192.0.2.8", 5060, "tcp")),
    ],
)
def test_a_call_within_the_own_domain_goes_to_the_registrar(target, direct, hop):
    found = Desk().engine.read_target(target, direct=direct)
    assert (found.hop, found.routes) == (hop, ())


# Refresh


def test_registered():
    desk = Desk()
    desk.answer(desk.register(7))
    (registered,) = desk.reported(Registered)
    assert (registered.registrar, registered.expires) == ("192.0.2.8", 3600)
    assert registered.refresh is False
    assert desk.ends() == [(7, "")]
    desk.due()
    desk.answer(desk.slot())
    assert [event.refresh for event in desk.reported(Registered)] == [False, True]


@pytest.mark.parametrize(
    ("granted", "jitter", "seconds"),
    [
        (3600, 0.0, 2700),
        (3600, 0.999, 3239),
        (7200, 0.0, 2700),  # more than asked for changes nothing
        (10**9, 0.0, 2700),
        (300, 0.0, 225),
        (60, 0.0, 27),  # half, so that most copies of a lost refresh come in time
        (60, 0.999, 30),
        (30, 0.0, 13.5),
        (30, 0.999, 15),
        (10, 0.999, 5),
        (1, 0.0, 1),  # not twice a second, whatever it says
    ],
)
def test_when_the_refresh_is_due(granted, jitter, seconds):
    desk = Desk(jitter)
    desk.answer(desk.register(), 200, f"Contact: <{CONTACT}>;expires={granted}")
    assert desk.reported(Registered)[0].expires == granted
    assert desk.due() == pytest.approx(seconds, abs=0.5)


def test_time_runs_from_the_request_on_not_from_its_late_answer():
    desk = Desk(0.0)
    request = desk.register()
    desk.advance(10)
    desk.answer(request, 200, f"Contact: <{CONTACT}>;expires=60")
    assert desk.due() == pytest.approx(17, abs=0.5)


@pytest.mark.parametrize(
    ("headers", "granted"),
    [
        ((f"Contact: <{CONTACT}>;expires=120", "Expires: 60"), 120),
        ((f'Contact: "x" <{CONTACT};ob>;q=1;expires="120"',), 120),
        (("Contact: <sip:1001@192.0.2.1>;expires=120",), 120),  # 5060 is what was left out
        (("Contact: <sip:%31001@192.0.2.1:5060>;expires=120",), 120),
        (("m: <sip:x@192.0.2.7>;expires=9, " + f"<{CONTACT}>;expires=120",), 120),
        ((f"Contact: <{CONTACT}>;expires=20", f"Contact: <{CONTACT}>;expires=120"), 120),
        ((f"Contact: <{CONTACT}>", "Expires: 60"), 60),
        ((f"Contact: <{CONTACT}>;expires=soon", "Expires: 60"), 60),
        (("Contact: <sip:x@192.0.2.7>;expires=9, <sip:y@192.0.2.7>;expires=9", "Expires: 60"), 60),
        (("Contact: <sip:1001@198.51.100.1:4711>;expires=60",), 60),  # rewritten for NAT
        (("Expires: 60",), 60),
        (("Expires: -1",), 3600),
        (("Contact: <<<<", "Contact: tel:1"), 3600),
        (("X-Nothing: 1",), 3600),
    ],
)
def test_what_was_granted(headers, granted):
    """RFC 3261 10.2.4: the parameter of our own contact, else Expires, else what we asked for."""
    desk = Desk()
    desk.answer(desk.register(), 200, *headers)
    assert desk.reported(Registered)[0].expires == granted


def test_nothing_granted_is_a_failure():
    desk = Desk()
    desk.answer(desk.register(7), 200, f"Contact: <{CONTACT}>;expires=0")
    (failed,) = desk.reported(RegistrationFailed)
    assert (failed.cause, failed.code) == ("rejected", 200)
    assert desk.ends() == [(7, "rejected")]


def test_a_lost_refresh_is_repeated_while_the_binding_lasts():
    desk = Desk(0.999)
    desk.answer(desk.register(), 200, f"Contact: <{CONTACT}>;expires=30")
    desk.due()
    begin = desk.now
    desk.slot()
    desk.advance(30 - begin)
    copies = [at - begin for at in desk.times("REGISTER") if at >= begin]
    assert copies == [pytest.approx(at, abs=0.01) for at in [0, *REPEATS[:5]]]


# Slots


def test_every_register_waits_for_its_slot_but_answers_to_challenges_do_not():
    desk = Desk()
    assert desk.take(desk.engine.register(0, 0.0)) == [SlotWanted()]
    assert desk.take(desk.engine.register(0, 0.0)) == []  # it is asked for
    request = desk.slot()
    assert lines(desk.answer(request, 401, CHALLENGE.format(1, ""))) == ["REGISTER"]
    assert len(desk.reported(SlotWanted)) == 1


def test_a_slot_that_nobody_waits_for_any_more_is_left_unused():
    desk = Desk()
    desk.engine.register(0, desk.now)
    desk.engine.unregister(0, desk.now)
    assert desk.engine.take_slot(desk.now) == []
    assert desk.engine.take_slot(desk.now) == []


# Failures


def failures(desk, request, *answers):
    """What each answer of the registrar leads to."""
    for code, *extra in answers:
        desk.answer(request, code, *(extra or ("X-Nothing: 1",)))
        yield desk.reported(RegistrationFailed)[-1]
        desk.due()
        request = desk.slot()


@pytest.mark.parametrize(
    ("jitter", "waits"),
    [
        (0.0, [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]),
        (0.999, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),
    ],
)
def test_failures_are_retried_ever_later(jitter, waits):
    desk = Desk(jitter)
    found = list(failures(desk, desk.register(), *[(503,)] * 10))
    assert [(f.cause, f.code, f.registrar) for f in found] == [("rejected", 503, "192.0.2.8")] * 10
    assert [f.retry_in for f in found] == [pytest.approx(wait, abs=0.5) for wait in waits]


def test_success_begins_anew():
    desk = Desk()
    for _ in failures(desk, desk.register(), (500,), (500,), (500,)):
        pass
    (*_, under_way) = sends(desk.reported(Send))
    desk.answer(under_way)
    assert desk.reported(Registered)[-1].refresh is False
    desk.due()
    desk.answer(desk.slot(), 500, "X-Nothing: 1")
    assert desk.reported(RegistrationFailed)[-1].retry_in == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("code", [301, 302, 400, 403, 404, 405, 420, 600, 606])
def test_what_time_does_not_heal_is_tried_again_slowly(code):
    desk = Desk(0.0)
    desk.answer(desk.register(), code, "Contact: <sip:elsewhere@192.0.2.77>")
    (failed,) = desk.reported(RegistrationFailed)
    assert (failed.cause, failed.code, failed.retry_in) == ("rejected", code, 150)
    assert desk.due() == pytest.approx(150, abs=0.5)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Retry-After: 100", 100),
        ("Retry-After: 100 (I'm in a meeting)", 100),
        ("Retry-After: 100;duration=20", 100),
        ("Retry-After: 0", 1),
        ("Retry-After: tomorrow", 1),
        ("Retry-After: 9999999999", 3600),
        ("Retry-After: 99999999999999999999", 1),
    ],
)
def test_retry_after(header, seconds):
    desk = Desk(0.0)
    desk.answer(desk.register(), 503, header)
    assert desk.reported(RegistrationFailed)[0].retry_in == pytest.approx(seconds, abs=0.5)


def test_while_the_old_binding_holds_it_is_tried_again_in_time():
    desk = Desk(0.0)
    desk.answer(desk.register())
    desk.due()
    waits = [f.retry_in for f in failures(desk, desk.slot(), *[(403,)] * 20)]
    # 900 s are left; from the fifth on, half of the rest comes before the usual 150 s.
    assert waits[:5] == [pytest.approx(150, abs=1)] * 5
    assert waits[5:8] == [pytest.approx(wait, abs=1) for wait in (75, 37, 18)]
    assert waits[-1] == 150  # it has lapsed


def test_how_long_it_took_is_from_the_first_request_a_challenge_included():
    """RFC 6076 4.1: a challenge is part of the attempt."""
    desk = Desk()
    first = desk.register()
    desk.advance(0.2)
    (second,) = sends(desk.answer(first, 401, CHALLENGE.format(1, "")))
    desk.advance(0.1)
    desk.answer(second)
    assert desk.reported(Registered)[-1].delay == pytest.approx(0.3)
    third = desk.register()
    desk.advance(0.25)
    desk.answer(third, 503)
    failed = desk.reported(RegistrationFailed)[-1]
    assert (failed.delay, failed.refresh) == (pytest.approx(0.25), True)


def test_nobody_answers():
    desk = Desk(0.0)
    desk.register(7)
    desk.advance(31.9)
    assert desk.reported(RegistrationFailed) == []
    desk.advance(0.2)
    (failed,) = desk.reported(RegistrationFailed)
    assert (failed.cause, failed.code, failed.retry_in) == ("no_response", None, 1)
    assert desk.ends() == [(7, "no_response")]
    assert desk.due() <= 1


@pytest.mark.parametrize("cause", ["unreachable", "unresolved"])
def test_nobody_is_there(cause):
    desk = Desk(0.0)
    desk.register(7)
    (sent,) = desk.reported(Send)
    unresolved = cause == "unresolved"
    desk.take(desk.engine.unreachable(sent.data, SERVER, desk.now, unresolved=unresolved))
    (failed,) = desk.reported(RegistrationFailed)
    assert (failed.cause, failed.retry_in) == (cause, 1)
    assert desk.ends() == [(7, cause)]


# 423


def test_too_brief():
    """RFC 3261 10.2.8."""
    desk = Desk(registrar=Registrar(server="192.0.2.8", aor="sip:1001@lab.test", expires=30))
    assert SlotWanted() in desk.answer(desk.register(7), 423, "Min-Expires: 120")
    request = desk.slot()
    assert request.headers["Contact"].endswith(";expires=120")
    assert request.headers["Expires"] == "120"
    desk.answer(request, 200, f"Contact: <{CONTACT}>;expires=120")
    assert desk.reported(RegistrationFailed) == []
    assert desk.ends() == [(7, "")]
    desk.due()
    assert desk.slot().headers["Expires"] == "120"  # it is remembered


@pytest.mark.parametrize("least", ["30", "29", "0", "-1", "x", "", "604801", "9" * 12])
def test_a_423_that_makes_no_sense_is_a_rejection(least):
    desk = Desk(registrar=Registrar(server="192.0.2.8", aor="sip:1001@lab.test", expires=30))
    desk.answer(desk.register(), 423, f"Min-Expires: {least}")
    assert [f.code for f in desk.reported(RegistrationFailed)] == [423]


def test_a_423_after_the_other_ends():
    desk = Desk(registrar=Registrar(server="192.0.2.8", aor="sip:1001@lab.test", expires=30))
    request = desk.register()
    for seconds in (40, 50, 60):
        assert SlotWanted() in desk.answer(request, 423, f"Min-Expires: {seconds}")
        request = desk.slot()
    desk.answer(request, 423, "Min-Expires: 70")
    assert [f.code for f in desk.reported(RegistrationFailed)] == [423]


# Credentials


@pytest.mark.parametrize("config", [{}, {"credentials": None}])
def test_wrong_or_missing_credentials_are_one_event_and_no_loop(config):
    desk = Desk(**config)
    request = desk.register(7)
    if not config:
        (request,) = sends(desk.answer(request, 401, CHALLENGE.format(1, "")))
    desk.answer(request, 401, CHALLENGE.format(2, ""))
    (failed,) = desk.reported(RegistrationFailed)
    assert (failed.cause, failed.code, failed.retry_in) == ("credentials", 401, None)
    assert desk.ends() == [(7, "credentials")]
    desk.advance(10**5)
    assert len(desk.reported(RegistrationFailed)) == len(desk.reported(SlotWanted)) == 1
    # Until somebody asks for it.
    desk.answer(desk.register(8))
    assert desk.ends()[1:] == [(8, "")]
    assert desk.due() > 1000


def test_a_challenge_that_we_cannot_answer_is_a_rejection():
    desk = Desk(0.0)
    desk.answer(desk.register(), 401, 'WWW-Authenticate: Digest realm="r", nonce="n", algorithm=X')
    (failed,) = desk.reported(RegistrationFailed)
    assert (failed.cause, failed.code, failed.retry_in) == ("rejected", 401, 150)


def test_the_refresh_has_credentials_from_the_start():
    day = Day()
    day.take(day.engine.register(0, 0.0))
    day.run(20_000)
    codes = day.pbx.codes
    assert codes[:3] == [401, 200, 401]  # the nonce is too old after 300 s
    fast = Day(FakeRegistrar(lambda: fast.now, nonce_life=10**6))
    fast.take(fast.engine.register(0, 0.0))
    fast.run(20_000)
    assert fast.pbx.codes[:2] == [401, 200]
    assert set(fast.pbx.codes[2:]) == {200}


def test_a_nonce_that_was_used_for_register_serves_a_call_to_the_domain():
    day = Day()
    day.take(day.engine.register(0, 0.0))
    day.run(1)
    target = day.engine.read_target("sip:1002@lab.test")
    (invite,) = sends(day.engine.call("c1", target, MEDIA, day.now))
    assert "nc=00000002" in invite.headers["Authorization"]


# Unregister


def registered(**config):
    desk = Desk(**config)
    desk.answer(desk.register())
    return desk


def unregister(desk, command=0):
    (request,) = sends(desk.take(desk.engine.unregister(command, desk.now)))
    return request


def test_unregister_takes_our_own_contact_out_and_asks_for_no_slot():
    desk = registered()
    request = unregister(desk, 9)
    assert request.headers["Contact"] == f"<{CONTACT}>;expires=0"
    assert request.headers["Expires"] == "0"
    desk.answer(request)
    (event,) = desk.reported(Unregistered)
    assert (event.registrar, event.confirmed) == ("192.0.2.8", True)
    assert desk.ends() == [(9, "")]
    desk.advance(10**5)
    assert len(desk.times("REGISTER")) == 2
    assert desk.engine.next_timer() is None


def test_unregister_is_challenged_as_well():
    desk = registered()
    (again,) = sends(desk.answer(unregister(desk, 9), 401, CHALLENGE.format(1, "")))
    assert again.headers["Contact"].endswith("expires=0")
    desk.answer(again)
    assert desk.ends() == [(9, "")]


@pytest.mark.parametrize(("code", "reason"), [(500, "rejected"), (0, "no_response")])
def test_unregister_without_success_stays_unregistered(code, reason):
    desk = registered()
    request = unregister(desk, 9)
    if code:
        desk.answer(request, code, "X-Nothing: 1")
    else:
        desk.advance(33)
    (event,) = desk.reported(Unregistered)
    assert event.confirmed is False
    assert desk.ends() == [(9, reason)]
    desk.advance(10**5)
    assert {m.headers["Expires"] for m in sends(desk.reported(Send))} == {"3600", "0"}


# One REGISTER at a time, and the last command wins


def test_commands_join_what_is_under_way():
    desk = Desk()
    request = desk.register(1)
    assert desk.take(desk.engine.register(2, desk.now)) == []
    desk.answer(request)
    assert desk.ends() == [(1, ""), (2, "")]
    removal = unregister(desk, 3)
    assert desk.take(desk.engine.unregister(4, desk.now)) == []
    desk.answer(removal)
    assert desk.ends()[2:] == [(3, ""), (4, "")]


def test_unregister_waits_for_the_register_under_way():
    desk = Desk()
    request = desk.register(1)
    assert desk.take(desk.engine.unregister(2, desk.now)) == []
    (removal,) = sends(desk.answer(request))
    assert desk.ends() == [(1, "")]
    assert removal.headers["Expires"] == "0"
    desk.answer(removal)
    assert desk.ends() == [(1, ""), (2, "")]


def test_register_waits_for_the_unregister_under_way():
    desk = registered()
    removal = unregister(desk, 2)
    assert desk.take(desk.engine.register(3, desk.now)) == []
    assert SlotWanted() in desk.answer(removal)
    desk.answer(desk.slot())
    assert desk.ends() == [(2, ""), (3, "")]
    assert desk.reported(Registered)[-1].refresh is False


def test_the_later_command_refuses_the_earlier():
    desk = Desk()
    desk.engine.register(1, desk.now)
    removal = unregister(desk, 2)
    assert desk.ends() == [(1, "superseded")]
    desk.engine.register(3, desk.now)
    desk.take(desk.engine.unregister(4, desk.now))
    assert desk.ends()[1:] == [(3, "superseded")]
    desk.answer(removal)
    assert desk.ends()[2:] == [(2, ""), (4, "")]

    desk.engine.take_slot(desk.now)
    request = desk.register(5)
    desk.engine.unregister(6, desk.now)
    desk.take(desk.engine.register(7, desk.now))
    assert desk.ends()[4:] == [(6, "superseded")]
    desk.answer(request)
    assert desk.ends()[5:] == [(5, ""), (7, "")]


def test_a_phone_without_a_registrar_says_so():
    hand = Hand()
    for command in (hand.engine.register, hand.engine.unregister):
        with pytest.raises(StackRefusal) as refusal:
            command(1, 0.0)
        assert refusal.value.reason == "no_registrar"
    assert hand.engine.drain(0.0) == []


# Stopping


def test_drain_unregisters_and_is_idle_after_the_answer():
    desk = registered()
    (request,) = sends(desk.take(desk.engine.drain(desk.now)))
    assert request.headers["Contact"] == f"<{CONTACT}>;expires=0"
    assert not desk.engine.is_idle()
    assert desk.engine.drain(desk.now) == []
    (again,) = sends(desk.answer(request, 401, CHALLENGE.format(1, "")))
    assert not desk.engine.is_idle()
    desk.answer(again)
    assert desk.engine.is_idle()
    assert len(desk.reported(Unregistered)) == 1
    for command in (desk.engine.register, desk.engine.unregister):
        with pytest.raises(StackRefusal, match="stopped"):
            command(1, desk.now)


def test_drain_waits_for_the_register_under_way():
    desk = Desk()
    request = desk.register(1)
    assert desk.take(desk.engine.drain(desk.now)) == []
    assert not desk.engine.is_idle()
    (removal,) = sends(desk.answer(request))
    assert not desk.engine.is_idle()
    desk.answer(removal)
    assert desk.engine.is_idle()
    assert desk.ends() == [(1, "")]


def test_drain_sends_nothing_for_what_was_never_registered():
    desk = Desk()
    desk.engine.register(1, desk.now)
    desk.take(desk.engine.drain(desk.now))
    assert desk.ends() == [(1, "draining")]
    assert desk.engine.is_idle()
    refused = Desk()
    request = refused.register()
    refused.engine.drain(refused.now)
    assert lines(refused.answer(request, 403, "X-Nothing: 1")) == []
    assert refused.engine.is_idle()
    (failed,) = refused.reported(RegistrationFailed)
    assert failed.retry_in is None


def test_drain_of_a_registrar_that_is_gone_ends_with_timer_f():
    desk = registered()
    desk.take(desk.engine.drain(desk.now))
    desk.advance(32.1)
    assert desk.engine.is_idle()
    (event,) = desk.reported(Unregistered)
    assert event.confirmed is False


# Odds and ends


def test_answers_that_are_late_or_not_final_change_nothing():
    desk = Desk()
    request = desk.register()
    assert desk.answer(request, 100) == []
    desk.answer(request)
    assert desk.answer(request, 500) == []
    assert desk.answer(request) == []
    assert len(desk.reported(Registered)) == 1


def test_the_password_is_nowhere_to_be_seen():
    day = Day()
    day.take(day.engine.register(3, 0.0))
    day.run(10_000)
    day.pbx.password = "changed"
    day.take(day.engine.register(4, day.now))
    day.run(10_000)
    assert [f.cause for f in day.events(RegistrationFailed)] == ["credentials"]
    engine = day.engine
    shown = [day.reported, engine.ctx.config, vars(engine), vars(engine._registration)]
    shown += [vars(engine.requests), dict(engine.counters), engine.last_error, day.sent]
    assert KEY.password not in "".join(map(repr, shown))
    assert not any(KEY.password in str(m.headers.items()) for _, m in day.sent)
    assert ALICE.host in repr(engine.ctx.config)


# A registrar that forgets us, on purpose


def test_a_dropped_registration_is_not_noticed_before_the_refresh():
    desk = Desk()
    desk.answer(desk.register())
    (drop,) = sends(desk.take(desk.engine.drop_registration(desk.now)))
    assert drop.headers["Contact"] == f"<{CONTACT}>;expires=0"
    assert sends(desk.answer(drop, 200, "Expires: 0")) == []
    assert len(desk.reported(Registered)) == 1
    assert not desk.reported(Unregistered)
    assert 2600 < desk.due() < 3300
    desk.answer(desk.slot())
    assert desk.reported(Registered)[-1].refresh


def test_a_drop_waits_for_the_register_that_is_under_way():
    desk = Desk()
    request = desk.register()
    assert sends(desk.take(desk.engine.drop_registration(desk.now))) == []
    (drop,) = sends(desk.answer(request))
    assert drop.headers["Expires"] == "0"


def test_who_registers_during_a_drop_is_registered_after_it():
    desk = Desk()
    desk.answer(desk.register())
    (drop,) = sends(desk.take(desk.engine.drop_registration(desk.now)))
    outputs = desk.take(desk.engine.register(7, desk.now))
    if SlotWanted() not in outputs:
        assert SlotWanted() in desk.answer(drop, 200, "Expires: 0")
    desk.answer(desk.slot())
    assert (7, "") in desk.ends()


def test_a_drop_that_nobody_answers_is_over_after_timer_f():
    desk = Desk()
    desk.answer(desk.register())
    desk.take(desk.engine.drop_registration(desk.now))
    desk.advance(33)
    assert not desk.reported(RegistrationFailed)
    assert desk.engine.is_idle()


def test_without_registrar_there_is_none_to_drop():
    desk = Desk()
    desk.engine = Engine(register_config(registrar=None))
    with pytest.raises(StackRefusal) as refused:
        desk.engine.drop_registration(desk.now)
    assert refused.value.reason == "no_registrar"
