"""Registrations as the herd sees them, and whose turn it is to send a REGISTER."""

from __future__ import annotations

import pytest

from sipherd.protocol.events import HerdReady, Registered, RegistrationFailed, Unregistered
from sipherd.protocol.exits import WorkerExit
from sipherd.protocol.messages import (
    AskToRegister,
    Done,
    ListPhones,
    PhoneInfo,
    Refused,
    RegisterNow,
    RegisterPhone,
    UnregisterPhone,
)
from sipherd.protocol.spec import RegisterSpec
from sipherd.protocol.states import PhoneState
from sipherd.supervisor.registrations import RegisterSlots
from sipherd.supervisor.timers import Timers
from supervisor_driver import Driver, phone

PBX = RegisterSpec(server="127.0.0.9:5070", domain="pbx.example", password="s3cret")
REGISTERED = Registered(registrar="127.0.0.9:5070", expires=60.0, refresh=False)
REFUSED = RegistrationFailed(
    registrar="127.0.0.9:5070", cause="credentials", code=403, reason="Forbidden"
)


def herd_of(*names: str, **keys: object) -> Driver:
    herd = Driver(*(phone(name, register=PBX) for name in names), phone("plain"), **keys)
    herd.begin()
    return herd


def info(herd: Driver, name: str) -> PhoneInfo:
    found: PhoneInfo = herd.answer(ListPhones(which=(name,))).phones[0]
    return found


# -- slots ---------------------------------------------------------------------------------------


def test_slots_are_given_out_evenly_and_in_order() -> None:
    timers, granted = Timers(), list[tuple[float, str, int]]()
    now = 100.0
    slots = RegisterSlots(10.0, timers, lambda name, number: granted.append((now, name, number)))
    for number in range(5):
        slots.ask(f"p{number}", 1, now)
    assert [name for _, name, _ in granted] == ["p0"]
    assert len(slots) == 4
    while (due := timers.next()) is not None:
        now = due
        timers.run(now)
    assert [name for _, name, _ in granted] == ["p0", "p1", "p2", "p3", "p4"]
    assert [round(at - 100.0, 6) for at, _, _ in granted] == [0.0, 0.1, 0.2, 0.3, 0.4]
    now = 101.0
    slots.ask("p5", 1, now)
    assert granted[-1][1] == "p5"


def test_one_that_was_restarted_keeps_its_place() -> None:
    timers, granted = Timers(), list[tuple[str, int]]()
    slots = RegisterSlots(10.0, timers, lambda *turn: granted.append(turn))
    slots.ask("a", 1, 0.0)
    slots.ask("b", 1, 0.0)
    slots.ask("c", 1, 0.0)
    slots.ask("b", 2, 0.01)
    timers.run(0.1)
    timers.run(0.2)
    assert granted == [("a", 1), ("b", 2), ("c", 1)]
    assert timers.next() is None


def test_five_hundred_phones_do_not_storm_a_registrar() -> None:
    herd = herd_of(*(f"p{number}" for number in range(30)), register_rate=10.0, sip="5060-5199")
    for number in range(30):
        herd.from_worker(f"p{number}", AskToRegister())
    turns = 0
    for second in range(3):
        herd.after(0.95 if second == 0 else 1.0)
        now = sum(RegisterNow() in herd.to_worker(f"p{number}") for number in range(30))
        assert now <= 10
        turns += now
    assert turns == 30


def test_a_turn_of_a_dead_process_is_nobody_else_s() -> None:
    herd = herd_of("a", "b", register_rate=10.0)
    herd.from_worker("a", AskToRegister())
    herd.from_worker("b", AskToRegister())
    assert herd.to_worker("a") == [RegisterNow()]
    herd.die("b", exit_code=1)
    herd.after(1.0)
    assert herd.to_worker("b") == []


# -- what is known of them -----------------------------------------------------------------------


def test_a_registration_and_its_expiry() -> None:
    herd = herd_of("a")
    assert (info(herd, "a").registration, info(herd, "plain").registration) == ("registering", "")
    herd.happens("a", REGISTERED)
    herd.now += 10
    seen = info(herd, "a")
    assert (seen.registration, seen.registration_expires) == ("registered", 50.0)
    herd.happens("a", REFUSED)
    seen = info(herd, "a")
    assert (seen.registration, seen.registration_why) == ("failed", "403 Forbidden")
    assert seen.registration_expires == 50.0  # what the registrar has, it keeps
    herd.now += 60
    assert info(herd, "a").registration_expires is None
    herd.happens("a", Unregistered(registrar="127.0.0.9:5070", confirmed=True))
    assert info(herd, "a").registration == "unregistered"


def test_why_in_words_where_there_was_no_response() -> None:
    herd = herd_of("a")
    herd.happens("a", RegistrationFailed(registrar="127.0.0.9:5070", cause="no_response"))
    assert info(herd, "a").registration_why == "no response"


def test_who_is_registered_after_all_does_not_try_again() -> None:
    herd = herd_of("a")
    failed = RegistrationFailed(registrar="127.0.0.9:5070", cause="no_response", retry_in=5.0)
    herd.happens("a", failed)
    herd.now += 2
    assert info(herd, "a").registration_retry == 3.0
    herd.happens("a", REGISTERED)
    assert info(herd, "a").registration_retry is None


def test_a_dead_phone_is_not_registered() -> None:
    herd = herd_of("a")
    herd.happens("a", REGISTERED)
    herd.die("a", exit_code=1)
    assert info(herd, "a").registration == ""


def test_its_password_is_shown_to_nobody() -> None:
    herd = herd_of("a")
    register = info(herd, "a").spec.register
    assert register is not None
    assert register.password == ""
    assert register.domain == "pbx.example"


# -- the herd is ready ---------------------------------------------------------------------------


def test_the_herd_is_ready_when_all_are_registered_or_refused() -> None:
    herd = herd_of("a", "b")
    herd.happens("a", REGISTERED)
    assert not herd.told(HerdReady)
    herd.now += 2
    herd.happens("b", REFUSED)
    (ready,) = herd.told(HerdReady)
    assert (ready.phones, ready.registered, ready.not_registered) == (3, 1, 1)
    herd.happens("b", REGISTERED)
    assert len(herd.told(HerdReady)) == 1


def test_a_phone_that_dies_and_comes_back_is_waited_for() -> None:
    herd = herd_of("a")
    herd.die("a", exit_code=1)
    herd.bring_up()
    assert not herd.told(HerdReady)
    herd.happens("a", REGISTERED)
    assert len(herd.told(HerdReady)) == 1


def test_a_phone_that_is_parked_is_not_waited_for() -> None:
    herd = herd_of("a")
    herd.die("a", exit_code=WorkerExit.CONFIGURATION)
    assert herd.state("a") is PhoneState.FAILED
    assert len(herd.told(HerdReady)) == 1


def test_a_herd_need_not_wait() -> None:
    herd = Driver(phone("a", register=PBX), wait_registered=False)
    herd.begin()
    assert len(herd.told(HerdReady)) == 1


# -- commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [RegisterPhone, UnregisterPhone])
def test_a_command_goes_to_the_phone_and_its_end_comes_back(
    command: type[RegisterPhone | UnregisterPhone],
) -> None:
    herd = herd_of("a")
    herd.to_worker("a")
    id = herd.ask(command(phone="a"))
    (sent,) = herd.commands("a")
    assert sent.body == command(phone="a")
    assert herd.reply(id) is None
    herd.from_worker("a", Done(), reply_to=sent.id)
    assert herd.reply(id) == Done()


def test_a_refusal_is_passed_on() -> None:
    herd = herd_of("a")
    herd.to_worker("a")
    id = herd.ask(RegisterPhone(phone="a"))
    (sent,) = herd.commands("a")
    herd.from_worker("a", Refused(reason="rejected", message="403 Forbidden"), reply_to=sent.id)
    assert herd.reply(id) == Refused(reason="rejected", message="403 Forbidden")


def test_who_dies_meanwhile_has_an_answer_too() -> None:
    herd = herd_of("a")
    herd.to_worker("a")
    id = herd.ask(RegisterPhone(phone="a"))
    herd.die("a", exit_code=1)
    assert herd.reply(id).reason == "phone_crashed"


@pytest.mark.parametrize(
    ("name", "reason"), [("plain", "no_registrar"), ("nobody", "no_such_phone")]
)
def test_who_can_t_register(name: str, reason: str) -> None:
    assert herd_of("a").answer(RegisterPhone(phone=name)).reason == reason


def test_a_phone_that_is_down_can_t_register() -> None:
    herd = herd_of("a")
    herd.die("a", exit_code=1)
    assert herd.answer(RegisterPhone(phone="a")).reason == "phone_not_ready"
