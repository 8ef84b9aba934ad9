"""Whose packets are taken, and where ours go."""

from sipherd.worker.media.latch import Latch

SDP = ("10.0.0.1", 6000)
NAT = ("192.0.2.7", 33000)
GHOST = ("192.0.2.66", 7000)


def latch(*ghosts):
    latch = Latch(frozenset(ghosts), 0.0)
    latch.announce(SDP)
    return latch


def test_the_announced_address():
    it = latch()
    assert it.destination == SDP
    assert it.accepts(SDP, 5, 1.0)
    assert it.accepts(SDP, 6, 2.0)  # the peer may begin another stream
    assert not it.accepts(NAT, 7, 3.0)
    assert it.destination == SDP


def test_behind_nat_the_first_stranger_counts_once():
    it = latch()
    assert it.accepts(NAT, 5, 1.0)
    assert it.destination == NAT
    assert it.accepts(NAT, 5, 1.1)
    assert not it.accepts(GHOST, 6, 1.2)
    assert it.destination == NAT


def test_what_comes_from_the_announced_address_ends_the_latch():
    it = latch()
    assert it.accepts(GHOST, 66, 1.0)
    assert it.accepts(SDP, 5, 1.1)
    assert it.destination == SDP
    assert not it.accepts(GHOST, 66, 1.2)


def test_a_ghost_of_the_last_call_is_not_heard():
    it = latch(66)
    assert not it.accepts(GHOST, 66, 5.0)
    assert it.destination == SDP
    assert it.accepts(NAT, 5, 5.1)
    assert not it.accepts(NAT, 66, 5.2)


def test_the_same_phone_calls_again_and_its_last_stream_still_flows():
    it = latch(66)
    assert not it.accepts(SDP, 66, 0.1)
    assert it.accepts(SDP, 5, 0.2)


def test_a_tool_with_one_ssrc_for_all_its_calls_is_heard_after_a_second():
    assert latch(66).accepts(SDP, 66, 1.1)


def test_a_new_address_in_sdp_is_a_new_latch():
    it = latch()
    it.accepts(NAT, 5, 1.0)
    it.announce(("10.0.0.2", 6002))
    assert it.destination == ("10.0.0.2", 6002)
    assert not it.accepts(NAT, 5, 2.0)  # what was heard before
    assert it.accepts(GHOST, 9, 2.1)
    assert it.heard == {5, 9}  # the next call is to know both


def test_the_same_address_again_keeps_the_latch():
    it = latch()
    it.accepts(NAT, 5, 1.0)
    it.announce(SDP)
    assert it.destination == NAT


def test_an_old_fashioned_hold_keeps_the_latch():
    it = latch()
    it.accepts(NAT, 5, 1.0)
    it.announce(None)
    it.announce(SDP)
    assert it.destination == NAT
    assert it.accepts(NAT, 5, 9.0)


def test_no_address_at_all():
    it = Latch(frozenset(), 0.0)
    it.announce(None)
    assert it.destination is None
    assert it.accepts(NAT, 5, 1.0)
    assert it.destination == NAT


def test_rtcp_may_come_from_another_port():
    it = latch()
    assert it.is_peer((SDP[0], 1234))
    assert not it.is_peer(NAT)
    it.accepts(NAT, 5, 1.0)
    assert it.is_peer((NAT[0], 1))


def test_a_peer_that_makes_up_streams_does_not_fill_the_memory():
    it = latch()
    for ssrc in range(10_000):
        it.accepts(SDP, ssrc, 2.0)
    assert len(it.heard) <= 64


def test_another_spelling_of_an_ipv6_address_is_the_same_address():
    it = Latch(frozenset(), 0.0)
    it.announce(("2001:DB8:0::0009", 6000))
    assert it.destination == ("2001:db8::9", 6000)
    assert it.accepts(("2001:db8::9", 6000), 5, 1.0)
    assert it.is_peer(("2001:db8::9", 6001))
