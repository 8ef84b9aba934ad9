"""Keys as SIP INFO, against a stack that only notes what it is asked for."""

import pytest

from sipherd.protocol.events import DtmfSent
from sipherd.worker.info_keys import InfoKeys
from sipherd.worker.stack import CommandEnded, StackRefusal


class NotingStack:
    def __init__(self):
        self.sent = []
        self.gone = False

    def send_info(self, call, command, content_type, content, now):
        if self.gone:
            raise StackRefusal("already_ended", f"call {call}: already ended")
        self.sent.append((call, command, content_type, content.split(b"\r\n")[0]))
        return []


@pytest.fixture
def keys():
    keys = InfoKeys(NotingStack(), lambda event: keys.reported.append(event))
    keys.reported = []
    return keys


def named(keys):
    return b"".join(line[-1:] for *_, line in keys._stack.sent).decode()


def test_one_info_per_key_each_after_the_answer_to_the_last(keys):
    keys.press(7, "c1", "11a#", 0)
    assert keys._stack.sent == [("c1", 7, "application/dtmf-relay", b"Signal=1")]
    for count in (2, 3, 4):
        assert keys.ended(CommandEnded(7), 0) == (False, [])
        assert len(keys._stack.sent) == count
    assert not keys.reported
    assert keys.ended(CommandEnded(7), 0) == (True, [])
    assert named(keys) == "11A#"
    assert keys.reported == [DtmfSent(call="c1", digits="11A#", method="info")]


def test_a_key_that_is_refused_is_the_last(keys):
    keys.press(7, "c1", "12", 0)
    assert keys.ended(CommandEnded(7, StackRefusal("rejected", "415")), 0) == (True, [])
    assert named(keys) == "1"
    assert not keys.reported


def test_the_call_ends_between_two_keys(keys):
    keys.press(7, "c1", "12", 0)
    keys._stack.gone = True
    over, ((end),) = keys.ended(CommandEnded(7), 0)
    assert not over
    assert end.refusal.reason == "already_ended"
    assert keys.ended(end, 0) == (True, [])
    keys._stack.gone = False
    keys.press(8, "c1", "3", 0)


def test_other_commands_are_none_of_its_business(keys):
    keys.press(7, "c1", "1", 0)
    assert keys.ended(CommandEnded(8), 0) == (True, [])


@pytest.mark.parametrize("digits", ["", "E", "1 2", "1,2"])
def test_what_is_no_key(keys, digits):
    with pytest.raises(StackRefusal) as refusal:
        keys.press(7, "c1", digits, 0)
    assert refusal.value.reason == "bad_digits"
    assert not keys._stack.sent


def test_keys_of_two_commands_do_not_mix(keys):
    keys.press(7, "c1", "12", 0)
    with pytest.raises(StackRefusal) as refusal:
        keys.press(8, "c1", "3", 0)
    assert refusal.value.reason == "dtmf_pending"
    keys.press(9, "c2", "4", 0)
    assert named(keys) == "14"


def test_a_call_that_can_not_be_pressed_in(keys):
    keys._stack.gone = True
    with pytest.raises(StackRefusal):
        keys.press(7, "c1", "1", 0)
    keys._stack.gone = False
    keys.press(8, "c1", "1", 0)
