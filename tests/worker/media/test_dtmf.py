"""RFC 4733, both ways, over a channel that loses packets."""

import random
import struct

import pytest

from sipherd.worker.media.dtmf import DIGITS, Digit, DtmfReceiver, DtmfSender

STRING = "1122334455*#ABCD"


def sent(digits, **changes):
    """The packets of a string: (time, marker, time stamp, payload)."""
    sender = DtmfSender(**changes)
    sender.send(digits)
    packets, frame = [], 0
    while sender.left:
        packet = sender.next(1000 + 160 * frame)
        if packet is not None:
            packets.append((0.02 * frame, *packet))
        frame += 1
    return packets


def heard(packets, ssrc=7):
    """The digits that a receiver makes of packets."""
    receiver = DtmfReceiver()
    found = []
    for at, _, timestamp, payload in packets:
        found += receiver.tick(at)
        found += receiver.receive(ssrc, timestamp, payload, at)
    found += receiver.tick((packets[-1][0] if packets else 0) + 1)
    return "".join(digit.digit for digit in found)


def is_end(packet):
    return bool(packet[3][1] & 0x80)


def test_one_digit_on_the_wire():
    packets = sent("5")
    fields = [struct.unpack("!BBH", payload) for *_, payload in packets]
    assert [event for event, _, _ in fields] == [5] * 8
    assert [flags >> 7 for _, flags, _ in fields] == [0] * 5 + [1] * 3
    assert [duration for *_, duration in fields] == [160, 320, 480, 640, 800, 800, 800, 800]
    assert [marker for _, marker, _, _ in packets] == [True] + [False] * 7
    assert {timestamp for _, _, timestamp, _ in packets} == {1000}
    assert packets[-1][0] == pytest.approx(0.14)


def test_digits_follow_each_other_after_a_pause():
    packets = sent("11", tone=0.1, pause=0.1)
    begins = [timestamp for _, marker, timestamp, _ in packets if marker]
    assert begins == [1000, 1000 + 1600]


def test_between_digits_audio_may_be_sent():
    sender = DtmfSender(tone=0.1, pause=0.1)
    sender.send("1")
    frames = [sender.next(160 * n) is not None for n in range(12)]
    assert frames == [True] * 8 + [False] * 4


def test_all_digits_have_their_event():
    assert heard(sent(DIGITS)) == DIGITS
    assert heard(sent("abcd")) == "ABCD"


@pytest.mark.parametrize("bad", ["x", "1 2", "E", "1\n"])
def test_what_is_no_digit(bad):
    sender = DtmfSender()
    with pytest.raises(ValueError, match="is no DTMF digit"):
        sender.send(bad)
    assert not sender.left


def test_clear():
    sender = DtmfSender()
    sender.send("123")
    sender.next(0)
    sender.clear()
    assert (sender.left, sender.next(160)) == (0, None)


def test_doubled_digits():
    assert heard(sent("1122")) == "1122"


def test_5_percent_loss_100_of_100():
    for seed in range(100):
        chance = random.Random(seed)
        packets = [packet for packet in sent(STRING) if chance.random() >= 0.05]
        assert heard(packets) == STRING, seed


def test_all_end_packets_lost_100_of_100():
    for seed in range(100):
        chance = random.Random(seed)
        string = "".join(chance.choice(DIGITS) for _ in range(8))
        string = "".join(digit * 2 for digit in string)
        assert heard([packet for packet in sent(string) if not is_end(packet)]) == string, seed


def test_only_end_packets_arrive():
    assert heard([packet for packet in sent(STRING) if is_end(packet)]) == STRING


def test_any_single_packet_of_a_digit_will_do():
    packets = sent("7")
    for packet in packets:
        assert heard([packet]) == "7"


def test_duplicates_and_late_packets_are_no_digits():
    packets = sent("11")
    first, second = packets[:8], packets[8:]
    assert heard([p for packet in packets for p in (packet, packet)]) == "11"
    # The ends of the first come after the second has begun.
    assert heard([*first[:5], second[0], *first[5:], *second[1:]]) == "11"


def test_without_an_end_silence_ends_it():
    receiver = DtmfReceiver()
    assert receiver.receive(7, 1000, struct.pack("!BBH", 3, 10, 160), 1.0) == []
    assert receiver.next_timer() == pytest.approx(1.15)
    assert receiver.tick(1.14) == []
    assert receiver.tick(1.151) == [Digit("3", 0.02)]
    assert receiver.next_timer() is None


def test_the_same_time_stamp_of_another_source_is_another_digit():
    receiver = DtmfReceiver()
    packet = struct.pack("!BBH", 3, 0x80, 160)
    digits = receiver.receive(7, 1000, packet, 1.0) + receiver.receive(8, 1000, packet, 1.0)
    assert digits == [Digit("3", 0.02)] * 2


@pytest.mark.parametrize("event", [16, 17, 255])
def test_events_that_are_no_digits(event):
    receiver = DtmfReceiver()
    assert receiver.receive(7, 1000, struct.pack("!BBH", event, 0x80, 160), 1.0) == []
    assert receiver.next_timer() is None


@pytest.mark.parametrize("payload", [b"", b"\1", b"\1\2\3"])
def test_packets_that_are_too_short(payload):
    assert DtmfReceiver().receive(7, 1000, payload, 1.0) == []


def test_a_digit_longer_than_the_field_is_one_digit():
    """§2.5.1.3: 0xffff time stamp units are 8.2 s; then a new segment begins."""
    receiver = DtmfReceiver()
    digits = receiver.receive(7, 1000, struct.pack("!BBH", 4, 10, 0xFFFF), 8.0)
    digits += receiver.receive(7, 1000 + 0xFFFF, struct.pack("!BBH", 4, 10, 160), 8.1)
    digits += receiver.receive(7, 1000 + 0xFFFF, struct.pack("!BBH", 4, 0x80, 320), 8.2)
    assert digits == [Digit("4", (0xFFFF + 320) / 8000)]


def test_the_memory_of_a_receiver_is_bounded():
    receiver = DtmfReceiver()
    for n in range(10_000):
        receiver.receive(n, n, struct.pack("!BBH", n % 16, 0x80, 160), n * 0.001)
    assert len(receiver._known) <= 32
