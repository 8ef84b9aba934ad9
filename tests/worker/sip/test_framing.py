"""Where messages end in a stream, however it is cut into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sipwire import OFFER, request

from sipherd.worker.sip.framing import MAX_BODY, MAX_HEAD, PING, Framer

INVITE = request("INVITE", body=OFFER)
OPTIONS = request("OPTIONS")
COMPACT = b"OPTIONS sip:a@h SIP/2.0\nv: SIP/2.0/TCP h\nl :\n 3\n\nabc"
OK = b"SIP/2.0 200 OK\r\ncontent-length: 4\r\nContent-Length:  4\r\n\r\n\r\n\r\n"


def bytewise(stream: bytes) -> tuple[list[bytes], str]:
    framer = Framer()
    return [m for at in range(len(stream)) for m in framer.feed(stream[at : at + 1])], framer.fault


def whole(stream: bytes) -> tuple[list[bytes], str]:
    framer = Framer()
    return framer.feed(stream), framer.fault


@pytest.mark.parametrize("read", [whole, bytewise])
@pytest.mark.parametrize("message", [INVITE, OPTIONS, COMPACT, OK])
def test_a_message(read, message):
    assert read(message) == ([message], "")
    assert read(b"\r\n\n" + message + b"\r\n" + message) == ([message, message], "")


@pytest.mark.parametrize("read", [whole, bytewise])
def test_keep_alive(read):
    assert read(PING) == ([PING], "")
    assert read(OK + PING + INVITE + PING + PING) == ([OK, PING, INVITE, PING, PING], "")


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("", "no Content-Length"),
        ("Content-Length: 1\r\nl: 2\r\n", "more than one Content-Length"),
        ("Content-Length: 1, 1\r\n", "unreadable Content-Length"),
        ("Content-Length: -1\r\n", "unreadable Content-Length"),
        ("Content-Length: 0x10\r\n", "unreadable Content-Length"),
        ("Content-Length:\r\n", "unreadable Content-Length"),
        ("Subject: x\r\n Content-Length: 5\r\n", "no Content-Length"),
    ],
)
@pytest.mark.parametrize("read", [whole, bytewise])
def test_a_message_without_a_length_is_the_end(read, head, why):
    """What came before it is still handed out; nothing after it is."""
    bad = f"OPTIONS sip:a@h SIP/2.0\r\n{head}\r\n".encode()
    assert read(OPTIONS + bad + OPTIONS) == ([OPTIONS], why)


@pytest.mark.parametrize("length", [str(MAX_BODY + 1), "9" * 5000])
@pytest.mark.parametrize("read", [whole, bytewise])
def test_a_body_that_is_too_long_is_left_out(read, length):
    head = b"OPTIONS sip:a@h SIP/2.0\r\nl: %b\r\n\r\n" % length.encode()
    found, why = read(head + b"x" * 100)
    assert found == [head]
    assert why == f"a body of more than {MAX_BODY} bytes"


@pytest.mark.parametrize("read", [whole, bytewise])
def test_the_largest_message(read):
    start = b"OPTIONS sip:a@h SIP/2.0\r\nl: 000%d\r\n" % MAX_BODY
    filler = b"X: " + b"x" * (MAX_HEAD - len(start) - 7) + b"\r\n\r\n"
    message = start + filler + b"\r\n" * (MAX_BODY // 2)
    assert len(start + filler) == MAX_HEAD
    if read is whole:
        assert read(message) == ([message], "")
    longer = start + b"X" + filler
    assert read(longer) == ([], f"a head of more than {MAX_HEAD} bytes")


def test_noise_without_a_line_end_is_not_kept_for_ever():
    framer = Framer()
    for _ in range(MAX_HEAD // 1024):
        assert framer.feed(b"\x16" * 1024) == []
    assert framer.fault
    assert framer.feed(OPTIONS) == []


def test_a_flood_of_empty_lines():
    framer = Framer()
    assert framer.feed(b"\n" * 100000 + b"\r\n" * 100000 + OPTIONS) == [PING] * 50000 + [OPTIONS]
    assert not framer.partial


def test_whether_a_message_is_under_way():
    framer = Framer()
    assert not framer.partial
    framer.feed(b"\r\n")
    assert not framer.partial
    framer.feed(INVITE[:-1])
    assert framer.partial
    framer.feed(INVITE[-1:])
    assert not framer.partial


pieces = st.sampled_from(
    [INVITE, OPTIONS, COMPACT, OK, PING, b"\r\n", b"\n", b"\r", b"l: 7\r\n\r\n", b"x", b"x\n\n"]
)


@given(st.lists(pieces | st.binary(max_size=20), max_size=8), st.data())
def test_any_split_gives_the_same_messages(parts, data):
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    framer = Framer()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += framer.feed(stream[start:end])
    assert (found, framer.fault) == whole(stream)
