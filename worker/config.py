"""From what a phone is to be, to what its stack needs to know."""

from __future__ import annotations

from urllib.parse import quote

from ..protocol.messages import Welcome
from ..protocol.spec import bracketed
from .stack import Credentials, Registrar, StackConfig

__all__ = ["stack_config"]

_USER = "-_.!~*'()&=+$,;?/"
"""What the user part of a URI has beside letters and digits without an escape (RFC 3261 §25.1)."""


def stack_config(welcome: Welcome) -> StackConfig:
    """What the stack needs to know of the phone."""
    spec = welcome.spec
    register = spec.register
    registrar = credentials = None
    if register is not None:
        user = register.username or spec.number
        aor = f"sip:{quote(user, safe=_USER)}@{bracketed(spec.domain)}"
        registrar = Registrar(server=register.server, aor=aor, expires=int(register.expires))
        if register.password:
            credentials = Credentials(register.auth_username or user, register.password)
    return StackConfig(
        user=spec.number,
        host=welcome.host,
        port=welcome.port,
        transport=spec.transport,
        display_name=spec.display_name,
        match_user=spec.match_user,
        max_calls=spec.call_limit,
        ring_timeout=spec.ring_timeout,
        domain=spec.domain,
        registrar=registrar,
        credentials=credentials,
        proxy=spec.proxy or "",
        codecs=spec.codecs,
        dtmf=spec.dtmf,
        session_expires=None if spec.session_expires is None else int(spec.session_expires),
    )
