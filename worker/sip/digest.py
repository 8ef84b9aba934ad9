"""Digest authentication: challenges read, answers written (RFC 7616, RFC 8760, RFC 3261 §22).

Known are MD5, SHA-256 and their ``-sess`` forms, with qop=auth or, as servers from before RFC 2617
have it, without qop.  What a server sends is only ever echoed or hashed; a challenge that is
hostile, broken or of another kind is one that cannot be answered, and nothing here raises.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..stack import Credentials

__all__ = ["Challenge", "Nonce", "parse_challenges", "strongest"]

_ALGORITHMS = {"md5": "md5", "md5-sess": "md5", "sha-256": "sha256", "sha-256-sess": "sha256"}
"""Algorithms by lower-case name, weakest first, and the hash of each."""
_RANK = {name: rank for rank, name in enumerate(_ALGORITHMS)}

_MOST_CHALLENGES = 16
_LONGEST = 1024
"""Characters of a realm, nonce or opaque: what we echo must fit into our request."""

_TOKEN = r"[A-Za-z0-9.!%*_+`'~-]+"
_ITEM = re.compile(
    # A parameter, and before the first one of each challenge its scheme.
    rf"\s*(?:(?P<scheme>{_TOKEN})\s+)?(?P<name>{_TOKEN})\s*=\s*"
    rf'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]*))\s*(?:,|$)'
    # A scheme without parameters, or with something that is none.
    rf"|\s*(?P<alone>{_TOKEN})[^,]*(?:,|$)"
    # An empty list element, or what no grammar allows.
    r"|[^,]*(?:,|$)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A challenge that can be answered.

    `realm`, `nonce` and `opaque` are what stood between the quotes, escapes and all: so they are
    hashed (RFC 7616 §1.2, ``unq``), and so they go back.
    """

    realm: str
    nonce: str
    algorithm: str = ""
    """As written; empty where it was left out, which means MD5."""
    opaque: str | None = None
    qop: bool = True
    """qop=auth is offered; False: the challenge has no qop at all (RFC 2069)."""
    stale: bool = False
    """Only the nonce was wrong: credentials need not be asked for again."""


class Nonce:
    """A challenge in use: counts how often it was answered (``nc``)."""

    __slots__ = ("_challenge", "_cnonce", "_count")

    def __init__(self, challenge: Challenge, cnonce: str) -> None:
        self._challenge = challenge
        # One for the life of the nonce: the session key of the -sess algorithms stays the same.
        self._cnonce = cnonce
        self._count = 0

    def authorize(self, method: str, uri: str, credentials: Credentials) -> str:
        """The next value of Authorization or Proxy-Authorization."""
        self._count += 1
        challenge, count = self._challenge, f"{self._count:08x}"
        response = _response(challenge, method, uri, credentials, count, self._cnonce)
        fields = [
            f"username={_quote(credentials.username)}",
            f'realm="{challenge.realm}"',
            f'nonce="{challenge.nonce}"',
            f"uri={_quote(uri)}",
            f'response="{response}"',
        ]
        if challenge.algorithm:
            fields.append(f"algorithm={challenge.algorithm}")
        if challenge.opaque is not None:
            fields.append(f'opaque="{challenge.opaque}"')
        if challenge.qop:  # no quotes around qop and nc (RFC 3261 §22.4, RFC 7616 §3.4)
            fields += ["qop=auth", f"nc={count}", f'cnonce="{self._cnonce}"']
        return f"Digest {', '.join(fields)}"


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """The challenges of WWW-Authenticate or Proxy-Authenticate headers that can be answered.

    One header may hold several, although §7.3.1 wants a header for each.
    """
    found: list[Challenge] = []
    for value in values:
        for scheme, params in _split(value):
            challenge = _read(params) if scheme.lower() == "digest" else None
            if challenge is not None and len(found) < _MOST_CHALLENGES:
                found.append(challenge)
    return found


def strongest(challenges: Iterable[Challenge]) -> dict[str, Challenge]:
    """By realm, the challenge with the best algorithm; of equals the first.

    RFC 8760 §2.4 would have the first whatever it is, unless we know better: a server that lists
    MD5 first must not make us use it.
    """
    best: dict[str, Challenge] = {}
    for challenge in challenges:
        known = best.get(challenge.realm)
        if known is None or _rank(challenge) > _rank(known):
            best[challenge.realm] = challenge
    return best


def _rank(challenge: Challenge) -> int:
    return _RANK[challenge.algorithm.lower() or "md5"]


def _split(value: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Scheme and parameters of each challenge in one header value."""
    scheme, params = "", dict[str, str]()
    at = 0
    while at < len(value):
        match = _ITEM.match(value, at)
        if match is None or match.end() == at:
            break
        at = match.end()
        begins = match["scheme"] or match["alone"]
        if begins:
            if scheme:
                yield scheme, params
            scheme, params = begins, {}
        if match["name"]:
            quoted = match["quoted"]
            params.setdefault(match["name"].lower(), match["plain"] if quoted is None else quoted)
    if scheme:
        yield scheme, params


def _read(params: Mapping[str, str]) -> Challenge | None:
    realm, nonce, opaque = params.get("realm"), params.get("nonce"), params.get("opaque")
    if realm is None or nonce is None or not all(map(_fit_to_echo, (realm, nonce, opaque or ""))):
        return None
    algorithm = params.get("algorithm", "")
    if algorithm and algorithm.lower() not in _ALGORITHMS:
        return None
    offered = [option.strip().lower() for option in params.get("qop", "").split(",")]
    qop = "auth" in offered
    if not qop and any(offered):
        return None  # auth-int, or what nobody knows
    if not qop and algorithm.lower().endswith("-sess"):
        return None  # its key needs a cnonce, and without qop there is none
    stale = params.get("stale", "").lower() == "true"
    return Challenge(
        realm=realm, nonce=nonce, algorithm=algorithm, opaque=opaque, qop=qop, stale=stale
    )


def _fit_to_echo(text: str) -> bool:
    # A bare CR, say, would begin a header of the server's choice in our request.
    return len(text) <= _LONGEST and not any(char < " " or char == "\x7f" for char in text)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _response(
    challenge: Challenge,
    method: str,
    uri: str,
    credentials: Credentials,
    count: str,
    cnonce: str,
) -> str:
    """RFC 7616 §3.4.1-§3.4.3; without qop RFC 2617 §3.2.2.1."""
    algorithm = challenge.algorithm.lower() or "md5"
    digest = _hash(_ALGORITHMS[algorithm])
    secret = digest(f"{credentials.username}:{challenge.realm}:{credentials.password}")
    if algorithm.endswith("-sess"):
        secret = digest(f"{secret}:{challenge.nonce}:{cnonce}")
    request = digest(f"{method}:{uri}")
    if not challenge.qop:
        return digest(f"{secret}:{challenge.nonce}:{request}")
    return digest(f"{secret}:{challenge.nonce}:{count}:{cnonce}:auth:{request}")


def _hash(name: str) -> Callable[[str], str]:
    def digest(text: str) -> str:
        # usedforsecurity: MD5 is what the protocol asks for, also where policy forbids it.
        data = text.encode("utf-8", "surrogateescape")
        return hashlib.new(name, data, usedforsecurity=False).hexdigest()

    return digest
