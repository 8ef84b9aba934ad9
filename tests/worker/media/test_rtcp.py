"""RTCP packets, sound and hostile."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.worker.media import rtcp
from sipherd.worker.media.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    SenderInfo,
    SenderReport,
    SourceDescription,
)

BLOCK = ReportBlock(
    ssrc=5, fraction_lost=12, lost=-3, highest=0x10007, jitter=9, last_report=77, delay=65536
)
COMPOUND = [
    SenderReport(1, SenderInfo(ntp=2**63 + 5, timestamp=6, packets=7, octets=8), (BLOCK,)),
    SourceDescription(((1, "p1@lab"),)),
    Bye((1,)),
]


def test_there_and_back():
    assert rtcp.parse(rtcp.build(COMPOUND)) == COMPOUND
    report = [ReceiverReport(1, (BLOCK, BLOCK)), SourceDescription(())]
    assert rtcp.parse(rtcp.build(report)) == report


@pytest.mark.parametrize("length", range(9))
def test_names_of_all_lengths_are_padded(length):
    packets = [ReceiverReport(1), SourceDescription(((2, "x" * length), (3, "y")))]
    data = rtcp.build(packets)
    assert len(data) % 4 == 0
    assert rtcp.parse(data) == packets


def test_layout_of_a_receiver_report():
    data = rtcp.build([ReceiverReport(1, (ReportBlock(2, 3, 4, 5, 6, 7, 8),))])
    assert data.hex() == "81c90007" + "00000001" + "00000002" + "03000004" + "".join(
        f"{number:08x}" for number in (5, 6, 7, 8)
    )


def test_other_packets_are_left_out():
    application = bytes.fromhex("80cc0002") + b"abcdefgh"
    assert rtcp.parse(rtcp.build([ReceiverReport(1)]) + application) == [ReceiverReport(1)]


@pytest.mark.parametrize("cut", [1, 4, 8, 30, 47])
def test_cut_off(cut):
    data = rtcp.build(COMPOUND[:1])
    with pytest.raises(rtcp.RtcpError):
        rtcp.parse(data[:cut])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        rtcp.build([Bye((1,))]),
        b"\x40" + rtcp.build(COMPOUND)[1:],
        bytes.fromhex("82c9000100000001"),  # two blocks announced, none there
        bytes.fromhex("80c9000100000001") + bytes.fromhex("a1cb000100000009"),
        bytes.fromhex("80c9000100000001") + bytes.fromhex("85cb000100000001"),
    ],
)
def test_what_is_no_compound_packet(data):
    with pytest.raises(rtcp.RtcpError):
        rtcp.parse(data)


@given(st.binary(max_size=80), st.integers(0, 100))
def test_nothing_but_rtcp_error_comes_out(junk, at):
    data = rtcp.build(COMPOUND)
    for candidate in (junk, data[:at] + junk + data[at + len(junk) :], data[:28] + junk):
        with contextlib.suppress(rtcp.RtcpError):
            rtcp.parse(candidate)


def test_round_trip():
    """The example of RFC 3550, figure 2: A - LSR - DLSR = 6.125 s."""
    block = ReportBlock(1, 0, 0, 0, 0, last_report=0xB705_2000, delay=0x0005_4000)
    now = 0xB44DB705 << 32 | 0x2000_0000  # n = 0xb44db705:20000000
    arrival = now + ((5 << 32) + (1 << 30)) + (6 << 32) + (1 << 29)
    assert rtcp.middle_of_ntp(arrival) == 0xB710_8000
    assert rtcp.round_trip(arrival, block) == 6.125


def test_a_round_trip_that_makes_no_sense():
    assert rtcp.round_trip(1 << 48, ReportBlock(1, 0, 0, 0, 0, 0, 5)) is None
    assert rtcp.round_trip(1 << 40, ReportBlock(1, 0, 0, 0, 0, 1 << 25, 5)) is None


def test_the_interval():
    assert rtcp.interval(0.5, first=False) == pytest.approx(5 / 1.21828)
    assert rtcp.interval(0.0, first=True) == pytest.approx(1.25 / 1.21828)
    assert rtcp.interval(1.0, first=False) == pytest.approx(7.5 / 1.21828)


def test_ntp_time():
    assert rtcp.ntp(0.5) == 2208988800 << 32 | 1 << 31
