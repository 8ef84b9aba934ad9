import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.worker.pyvoip import TransmitType
from sipherd.worker.sip import sdp
from sipherd.worker.stack import Media, MediaPlan

MEDIA = Media(host="192.0.2.9", port=4000)
SESSION = "v=0\r\no=x 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n"


def described(*lines):
    return sdp.parse((SESSION + "".join(f"{line}\r\n" for line in lines)).encode())


def answered(*lines):
    return sdp.answer(described(*lines), MEDIA, 5).decode().split("\r\n")


def test_our_offer_is_understood_by_ourselves():
    description = sdp.parse(sdp.offer(MEDIA, 1))
    assert description.address == ("192.0.2.9", 4000)
    assert description.codec == "PCMU"
    assert [c.name for c in description.audio.codecs] == ["PCMU", "PCMA", "telephone-event"]


def test_the_answer_keeps_the_callers_order_and_numbers():
    lines = answered(
        "m=audio 6000 RTP/AVP 18 8 96 0", "a=rtpmap:96 telephone-event/8000", "a=fmtp:96 0-16"
    )
    assert "m=audio 4000 RTP/AVP 8 96 0" in lines
    assert "a=rtpmap:96 telephone-event/8000" in lines


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ("sendrecv", "sendrecv"),
        ("sendonly", "recvonly"),
        ("recvonly", "sendonly"),
        ("inactive", "inactive"),
    ],
)
@pytest.mark.parametrize("level", ["session", "media"])
def test_direction_is_mirrored(offered, expected, level):
    lines = ["m=audio 6000 RTP/AVP 0"]
    lines.insert(0 if level == "session" else 1, f"a={offered}")
    assert f"a={expected}" in answered(*lines)


def test_the_answer_repeats_the_times_of_the_offer():
    """RFC 3264 6."""
    content = SESSION.replace("t=0 0", "t=3034423619 3042462419") + "m=audio 6000 RTP/AVP 0\r\n"
    assert b"\r\nt=3034423619 3042462419\r\n" in sdp.answer(sdp.parse(content.encode()), MEDIA, 5)
    no_times = SESSION.replace("t=0 0\r\n", "") + "m=audio 6000 RTP/AVP 0\r\n"
    assert b"\r\nt=0 0\r\n" in sdp.answer(sdp.parse(no_times.encode()), MEDIA, 5)


def test_the_hold_of_rfc_2543():
    lines = ("m=audio 6000 RTP/AVP 0", "c=IN IP4 0.0.0.0")
    assert "a=inactive" in answered(*lines)
    assert described(*lines).address is None


def test_other_streams_are_declined_in_place():
    lines = answered(
        "m=video 7000 UDP/TLS/RTP/SAVPF 96 97",
        "a=rtpmap:96 VP8/90000",
        "m=audio 6000 RTP/AVP 0",
        "c=IN IP4 192.0.2.8",
        "m=audio 6002 RTP/AVP 0",
        "m=message 9 TCP/MSRP *",
    )
    assert [line for line in lines if line.startswith("m=")] == [
        "m=video 0 UDP/TLS/RTP/SAVPF 96 97",
        "m=audio 4000 RTP/AVP 0",
        "m=audio 0 RTP/AVP 0",
        "m=message 0 TCP/MSRP *",
    ]


def test_the_connection_of_the_media_goes_before_that_of_the_session():
    assert described("m=audio 6000 RTP/AVP 0", "c=IN IP6 2001:db8::1").address == (
        "2001:db8::1",
        6000,
    )


@pytest.mark.parametrize(
    "line",
    [
        "m=audio 6000 RTP/AVP 3 18",
        "m=audio 6000 RTP/SAVP 0",
        "m=audio 0 RTP/AVP 0",
        "m=audio 99999 RTP/AVP 0",
        "m=video 6000 RTP/AVP 0",
        "m=audio",
        "m=audio x RTP/AVP 0",
    ],
)
def test_offers_that_cannot_be_taken(line):
    with pytest.raises(sdp.NotAcceptable):
        sdp.answer(described(line), MEDIA, 5)


def test_telephone_event_alone_is_no_audio():
    assert described("m=audio 6000 RTP/AVP 96", "a=rtpmap:96 telephone-event/8000").audio is None


def test_a_dynamic_number_for_pcmu_and_a_wrong_clock():
    description = described(
        "m=audio 6000 RTP/AVP 97 98", "a=rtpmap:97 PCMU/16000", "a=rtpmap:98 pcma/8000/1"
    )
    assert [(c.payload, c.name) for c in description.audio.codecs] == [(98, "PCMA")]


def test_ipv6_media():
    text = sdp.offer(Media(host="2001:db8::9", port=4000), 1).decode()
    assert "c=IN IP6 2001:db8::9\r\n" in text


@pytest.mark.parametrize("content", [b"", b"hello", SESSION.encode(), b"m=audio 1 RTP/AVP 0\r\n"])
def test_what_is_no_description(content):
    with pytest.raises(sdp.SdpError):
        sdp.parse(content)


@given(st.binary() | st.lists(st.sampled_from(
    ["m=audio 6000 RTP/AVP 0", "m=", "a=rtpmap:0", "a=rtpmap:9 x/1", "a=fmtp:", "c=IN", "b=", "k=",
     "a=:", "c=IN IP4 1/2/3", "r=1", "z=1 2 3", "o=", "m=audio 1/x RTP/AVP", "a=rtpmap:0 /", "t="]
)).map(lambda lines: (SESSION + "\r\n".join(lines)).encode()))  # fmt: skip
def test_nothing_but_sdp_error_comes_out(content):
    try:
        description = sdp.parse(content)
        sdp.answer(description, MEDIA, 1)
        assert description.codec
    except (sdp.SdpError, sdp.NotAcceptable):
        pass


# What offer and answer settle


def test_what_is_sent_has_the_peers_numbers():
    remote = described("m=audio 6000 RTP/AVP 8 96 0", "a=rtpmap:96 telephone-event/8000")
    plan = sdp.plan("c1", remote)
    assert plan == MediaPlan(
        call="c1",
        remote=("192.0.2.7", 6000),
        codec="PCMA",
        payload=8,
        dtmf_payload=96,
        accepted=((8, "PCMA"), (96, "telephone-event"), (0, "PCMU")),
    )


def test_what_comes_has_the_numbers_of_our_offer_too():
    remote = described("m=audio 6000 RTP/AVP 0 96", "a=rtpmap:96 telephone-event/8000")
    plan = sdp.plan("c1", remote, offered=True)
    assert (96, "telephone-event") in plan.accepted
    assert (101, "telephone-event") in plan.accepted
    assert sdp.plan("c1", described("m=audio 6000 RTP/AVP 0"), offered=True).accepted == (
        (0, "PCMU"),
    )


@pytest.mark.parametrize(
    ("remote", "local", "sending", "receiving"),
    [
        ("sendrecv", "sendrecv", True, True),
        ("sendonly", "sendrecv", False, True),
        ("recvonly", "sendrecv", True, False),
        ("inactive", "sendrecv", False, False),
        ("sendrecv", "sendonly", True, False),
        ("recvonly", "sendonly", True, False),
        ("sendonly", "sendonly", False, False),
        ("sendrecv", "inactive", False, False),
    ],
)
def test_who_sends(remote, local, sending, receiving):
    description = described("m=audio 6000 RTP/AVP 0", f"a={remote}")
    plan = sdp.plan("c1", description, local=TransmitType(local))
    assert (plan.sending, plan.receiving) == (sending, receiving)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a=rtcp:7001", ("192.0.2.7", 7001)),
        ("a=rtcp:7001 IN IP4 192.0.2.7", ("192.0.2.7", 7001)),
        ("a=rtcp:0", None),
        ("a=rtcp:99999999999", None),
        ("a=rtcp", None),
        ("a=sendrecv", None),
    ],
)
def test_where_rtcp_goes(line, expected):
    assert sdp.plan("c1", described("m=audio 6000 RTP/AVP 0", line)).remote_rtcp == expected


def test_hold_as_it_was_once_done_goes_nowhere():
    """RFC 3264 §8.4."""
    plan = sdp.plan("c1", described("m=audio 6000 RTP/AVP 0", "c=IN IP4 0.0.0.0"))
    assert (plan.remote, plan.sending, plan.receiving) == (None, False, False)


def test_no_audio_no_plan():
    assert sdp.plan("c1", described("m=video 6000 RTP/AVP 31")) is None
