"""RTP packets, sound and hostile."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.worker.media import rtp
from sipherd.worker.media.rtp import RtpPacket

PACKET = rtp.build(0, 7, 1600, 0xDEADBEEF, b"audio", marker=True)


def test_layout():
    assert bytes.fromhex("8080000700000640deadbeef") + b"audio" == PACKET


def test_there_and_back():
    assert rtp.parse(PACKET) == RtpPacket(0, True, 7, 1600, 0xDEADBEEF, b"audio")


def test_sequence_and_time_stamp_wrap():
    packet = rtp.parse(rtp.build(8, 0x1FFFF, 0x1_0000_0002, 1, b"", marker=False))
    assert (packet.sequence, packet.timestamp, packet.marker) == (0xFFFF, 2, False)


def test_contributing_sources_padding_and_extension_are_left_out():
    head = struct.pack("!BBHII", 2 << 6 | 0x20 | 0x10 | 2, 8, 1, 2, 3)
    sources = bytes(8)
    extension = struct.pack("!HH", 0xBEDE, 1) + b"abcd"
    assert rtp.parse(head + sources + extension + b"audio" + b"\0\0\3").payload == b"audio"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter"),
        (PACKET[:11], "shorter"),
        (b"\x40" + PACKET[1:], "ersion"),
        (b"\x8f" + PACKET[1:], "contributing"),
        (b"\x90" + PACKET[1:12], "extension"),
        (b"\x90" + PACKET[1:12] + b"\0\0\0\1abc", "extension"),
        (b"\xa0" + PACKET[1:12], "padding"),
        (b"\xa0" + PACKET[1:12] + b"\0", "padding"),
        (b"\xa0" + PACKET[1:12] + b"a\3", "padding"),
    ],
)
def test_what_is_no_packet(data, why):
    with pytest.raises(rtp.RtpError, match=why):
        rtp.parse(data)


@given(st.binary(max_size=64) | st.binary(max_size=60).map(lambda rest: b"\xb3" + rest))
def test_nothing_but_rtp_error_comes_out(data):
    try:
        packet = rtp.parse(data)
    except rtp.RtpError:
        return
    assert packet.payload_type < 128
