"""What Kamailio lets pass is right: small wrong requests are refused, each for its own reason."""

from __future__ import annotations

import hashlib
import itertools
import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from peers.baresip import Baresip
from peers.kamailio import Kamailio
from peers.sipp import loopback_address, wait_for

StartBaresip = Callable[..., Baresip]
StartKamailio = Callable[..., Kamailio]


class User:
    """User 1001 of a Kamailio, in one socket; it knows how to answer a challenge."""

    def __init__(self, kamailio: Kamailio, hash: str) -> None:
        self._kamailio = kamailio
        self._hash = hash
        self._cseq = itertools.count(1)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((loopback_address(), 0))
        self._socket.settimeout(10)

    def ask(self, method: str, *headers: str, to_tag: str = "") -> str:
        """The response to a request."""
        host, port = self._socket.getsockname()
        cseq = next(self._cseq)
        lines = [
            f"{method} sip:{self._kamailio.hostport} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{cseq}",
            "Max-Forwards: 70",
            f"From: <sip:1001@{self._kamailio.hostport}>;tag=1",
            f"To: <sip:1001@{self._kamailio.hostport}>{to_tag}",
            f"Call-ID: {port}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:1001@{host}:{port}>",
            *headers,
            "Content-Length: 0",
        ]
        destination = (self._kamailio.address, self._kamailio.port)
        self._socket.sendto("\r\n".join([*lines, "", ""]).encode(), destination)
        return self._socket.recv(65536).decode()

    def nonce(self) -> str:
        """A fresh one."""
        found = re.search(r'nonce="([^"]*)"', self.ask("REGISTER"))
        assert found is not None
        return found[1]

    def credentials(self, nonce: str, nc: int, password: str = "secret-1001") -> str:
        """The header that answers a challenge to REGISTER."""
        uri = f"sip:{self._kamailio.hostport}"
        secret = self._digest(f"1001:kamailio:{password}")
        request = self._digest(f"REGISTER:{uri}")
        response = self._digest(f"{secret}:{nonce}:{nc:08x}:cnonce:auth:{request}")
        return (
            f'Authorization: Digest username="1001", realm="kamailio", nonce="{nonce}", '
            f'uri="{uri}", response="{response}", cnonce="cnonce", nc={nc:08x}, qop=auth'
        )

    def _digest(self, text: str) -> str:
        return hashlib.new(self._hash, text.encode()).hexdigest()

    def close(self) -> None:
        self._socket.close()


StartUser = Callable[..., User]


@pytest.fixture
def start_user() -> Iterator[StartUser]:
    users: list[User] = []

    def start(kamailio: Kamailio, hash: str = "md5") -> User:
        users.append(User(kamailio, hash))
        return users[-1]

    yield start
    for user in users:
        user.close()


def code(response: str) -> int:
    return int(response.split()[1])


@pytest.mark.parametrize(
    ("algorithm", "hash", "expected"),
    [
        (None, "md5", 200),
        ("SHA-256", "sha256", 200),
        ("SHA-256", "md5", 401),
        (None, "sha256", 401),
    ],
)
def test_digest(
    start_kamailio: StartKamailio,
    start_user: StartUser,
    algorithm: str | None,
    hash: str,
    expected: int,
) -> None:
    kamailio = start_kamailio(algorithm=algorithm)
    user = start_user(kamailio, hash)
    challenge = user.ask("REGISTER")
    assert code(challenge) == 401
    assert ("algorithm=SHA-256" in challenge) is (algorithm is not None)
    assert code(user.ask("REGISTER", user.credentials(user.nonce(), 1))) == expected
    assert bool(kamailio.contacts("1001")) is (expected == 200)


def test_a_wrong_password(start_kamailio: StartKamailio, start_user: StartUser) -> None:
    user = start_user(start_kamailio())
    refused = user.ask("REGISTER", user.credentials(user.nonce(), 1, "guessed"))
    assert code(refused) == 401
    assert "stale" not in refused


def test_a_nonce_count_that_does_not_count(
    start_kamailio: StartKamailio, start_user: StartUser
) -> None:
    user = start_user(start_kamailio())
    nonce = user.nonce()
    for nc, expected in ((1, 200), (2, 200), (2, 401), (3, 200)):
        response = user.ask("REGISTER", user.credentials(nonce, nc))
        assert code(response) == expected
        assert ("stale=true" in response) is (expected == 401)


def test_an_old_nonce(start_kamailio: StartKamailio, start_user: StartUser) -> None:
    user = start_user(start_kamailio(nonce_expire=1))
    nonce = user.nonce()
    time.sleep(2.1)  # it counts whole seconds
    assert "stale=true" in user.ask("REGISTER", user.credentials(nonce, 1))


def test_expiry(start_kamailio: StartKamailio, start_user: StartUser) -> None:
    kamailio = start_kamailio(min_expires=10, max_expires=60)
    user = start_user(kamailio)
    nonce = user.nonce()
    refused = user.ask("REGISTER", user.credentials(nonce, 1), "Expires: 9")
    assert code(refused) == 423
    assert "Min-Expires: 10" in refused
    assert ";expires=60" in user.ask("REGISTER", user.credentials(nonce, 2), "Expires: 3600")
    (contact,) = kamailio.contacts("1001")
    assert 0 < contact.expires <= 60
    assert code(user.ask("REGISTER", user.credentials(nonce, 3), "Expires: 0")) == 200
    assert kamailio.contacts("1001") == []


def test_a_request_that_does_not_take_the_route(
    start_kamailio: StartKamailio, start_user: StartUser
) -> None:
    assert code(start_user(start_kamailio()).ask("BYE", to_tag=";tag=2")) == 404


def test_baresip_registers(start_kamailio: StartKamailio, start_baresip: StartBaresip) -> None:
    """Another user agent is found right: Kamailio is not stricter than SIP is."""
    kamailio = start_kamailio()
    password = kamailio.password("1002")
    start_baresip(user="1002", domain=kamailio.hostport, account=f";regint=60;auth_pass={password}")
    wait_for(lambda: kamailio.contacts("1002"), "the registration")
