"""Where the responses to a request go, and what is noted of it in its Via (RFC 3261 §18.2)."""

from __future__ import annotations

from ..stack import DEFAULT_PORT, Hop
from .message import Message, Via
from .uri import split_commas

__all__ = ["reply_hop", "stamp_via"]


def reply_hop(via: Via, source: Hop) -> Hop:
    """Where responses to a request from ``source`` go (§18.2.2, RFC 3581 §4).

    Over TCP they go back on its connection; should that be gone, to the sent-by port.
    """
    if "rport" in via.params and not source.reliable:
        return source
    return source._replace(port=via.port or DEFAULT_PORT)


def stamp_via(request: Message, source: Hop) -> None:
    """Write ``received`` and ``rport`` into the top Via of ``request`` (§18.2.1, RFC 3581 §4)."""
    via = request.via
    rport = "rport" in via.params
    if not rport and via.host == source.host:
        return
    params = via.params | {"received": source.host}
    if rport:
        params["rport"] = str(source.port)
    stamped = str(Via(via.transport, via.host, via.port, params))
    rest = split_commas(request.headers["Via"])[1:]
    request.headers.replace_first("Via", ", ".join([stamped, *rest]))
