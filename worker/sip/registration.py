"""The registration of one phone: made, kept up, lost, made again, ended (RFC 3261 §10.2).

Theory of operation.  At any time at most one REGISTER is under way (§10.2), and what comes next is
one of three: a timer (the next refresh or retry), a slot that was asked for, or nothing.

    register ──▶ slot asked ──slot──▶ REGISTER ──2xx──▶ timer: refresh ──▶ slot asked …
                     ▲                   ├─ 423 ──────▶ slot asked, with Min-Expires
                     └──── timer: retry ◀┴─ failure; refused credentials: nothing
    unregister, drain ──▶ (end of a REGISTER under way) ──▶ REGISTER with expires=0

A challenge and its answer are one REGISTER here (`authentication`); the answer needs no slot, nor
does the end of a registration.

The refresh comes after 75 to 90 % of what was granted, but early enough for all copies of one
request (64·T1); where less than twice that was granted, after half of it.  Failures are retried
after 1 to 2 s, then twice as long each time up to 5 minutes, half of it at random so that a herd
does not come back as one; sooner while the old binding still holds, later if the registrar says so
(Retry-After).  A rejection that time alone does not heal (403, 404 …) is retried every 5 minutes:
somebody may be adding the account right now.  A wrong password is not retried: it locks accounts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from ..stack import (
    DEFAULT_PORT,
    CommandEnded,
    Hop,
    Registered,
    RegistrationFailed,
    SlotWanted,
    StackRefusal,
    Unregistered,
)
from .authentication import Attempt, Requests
from .context import ALLOW
from .message import Message, readable
from .timers import Timer
from .uri import NameAddr, SipUri, UriError

__all__ = ["Registration"]

_FIRST_RETRY = 2.0
_LAST_RETRY = 300.0
"""Seconds between two attempts after a first failure, and after many."""
_LONGEST_RETRY_AFTER = 3600.0
"""More is not believed: a registrar that said a week would have lost the phone for a week."""
_LONGEST_EXPIRES = 7 * 86400
"""Nor is a longer Min-Expires."""
_SHORTEST_REFRESH = 1.0
_MOST_TOO_BRIEF = 3
"""423 responses in a row that are obeyed."""
_TRANSIENT = frozenset({408, 429, 480, 491})

Cause: TypeAlias = Literal["rejected", "credentials", "no_response", "unreachable", "unresolved"]

_SECONDS = re.compile(r"\s*(\d{1,10})\s*(?:[;(].*)?")


class _Drop:
    """Waits for the end of a REGISTER that is nobody's business (ClientUser)."""

    def __init__(self, over: Callable[[], None]) -> None:
        self._over = over

    def on_response(self, response: Message, source: Hop) -> None:
        if response.code >= 200:
            self._over()

    def on_timeout(self) -> None:
        self._over()

    def on_unreachable(self) -> None:
        self._over()


class Registration:
    """Keeps one phone registered, as long as that is wanted."""

    def __init__(self, requests: Requests) -> None:
        """Raises UriError for a registrar or proxy that is none."""
        self._ctx = requests.ctx
        self._requests = requests
        config = self._ctx.config
        assert config.registrar is not None
        self._server = config.registrar.server
        self._aor = config.registrar.aor
        # §10.2: the request URI is the domain alone.
        domain = SipUri(SipUri.parse(self._aor).host)
        self._domain = str(domain)
        self._hop, self._routes = self._ctx.way(domain)
        self._contact = self._ctx.contact_by(self._hop.transport)
        self._own = _key(SipUri.parse(NameAddr.parse(self._contact).uri))
        # One Call-ID and one sequence for all of this process's REGISTERs (§10.2).
        self._call_id = f"{self._ctx.token()}@{config.host}"
        self._tag = self._ctx.token()
        self._cseq = 0
        self._expires = config.registrar.expires
        """Seconds to ask for; a 423 raises it."""
        self._wanted = False
        self._draining = False
        self._due = False
        """A REGISTER waits for its slot."""
        self._slot_asked = False
        """One is asked for, whether or not it is needed any more."""
        self._timer: Timer | None = None
        self._attempt: Attempt | None = None
        """The REGISTER under way."""
        self._removing = False
        """It has expires=0."""
        self._remove_next = False
        """Such a one is to follow it."""
        self._drop_next = False
        """One that we know nothing of is."""
        self._sent_at = 0.0
        self._bound_until = 0.0
        """When the registrar forgets us."""
        self._registered = False
        """The last attempt to register succeeded."""
        self._failures = 0
        self._too_brief = 0
        self._registering: list[int] = []
        self._unregistering: list[int] = []
        """Commands that wait."""

    # Commands: the last one wins, and who asked for the contrary is refused

    def register(self, command: int) -> None:
        """Register, or refresh, now, and stay registered.  Raises StackRefusal."""
        if self._draining:
            raise StackRefusal("draining", "the phone is being stopped")
        self._wanted = True
        if command:
            self._registering.append(command)
        if self._remove_next:
            self._remove_next = False
            self._end(self._unregistering, StackRefusal("superseded", "registered again"))
        if self._attempt is None:
            self._ask_for_slot()

    def unregister(self, command: int) -> None:
        """Have the registrar forget us, and stay so.  Raises StackRefusal."""
        if self._draining:
            raise StackRefusal("draining", "the phone is being stopped")
        self._give_up(StackRefusal("superseded", "unregistered meanwhile"))
        if command:
            self._unregistering.append(command)
        if self._attempt is None:
            self._send(0)
        elif not self._removing:
            self._remove_next = True

    def take_slot(self) -> None:
        """The slot that was asked for has come."""
        self._slot_asked = False
        if self._due and self._attempt is None:
            self._send(self._expires)

    def drain(self) -> None:
        """End the registration because the phone stops; harmless when repeated."""
        if self._draining:
            return
        self._draining = True
        self._give_up(StackRefusal("draining", "the phone is being stopped"))
        if self._attempt is None:
            if self._is_bound():
                self._send(0)
        elif not self._removing:
            self._remove_next = True

    def drop(self) -> None:
        """Have the registrar forget us, and go on as if it had not: a fault on purpose."""
        if self._attempt is not None:
            self._drop_next = True  # at most one REGISTER is under way (§10.2)
            return
        self._removing = False
        user = _Drop(self._on_dropped)
        self._attempt = self._requests.send(self._request(0), self._hop, user, self._next_cseq)

    def _on_dropped(self) -> None:
        """The registrar has forgotten us, or it did not answer."""
        self._attempt = None
        self._go_on()
        if self._registering and self._attempt is None and not self._slot_asked:
            self._ask_for_slot()  # somebody wished to register meanwhile

    def _give_up(self, refusal: StackRefusal) -> None:
        """Want no registration any more."""
        self._wanted = self._due = False
        self._stop_timer()
        if self._attempt is None or self._removing:
            self._end(self._registering, refusal)  # else they wait for what is under way

    # The REGISTER

    def _ask_for_slot(self) -> None:
        self._stop_timer()
        self._due = True
        if not self._slot_asked:
            self._slot_asked = True
            self._ctx.emit(SlotWanted())

    def _send(self, expires: int) -> None:
        self._due = False
        self._removing = expires == 0
        self._sent_at = self._ctx.now
        request = self._request(expires)
        self._attempt = self._requests.send(request, self._hop, self, self._next_cseq)

    def _request(self, expires: int) -> Message:
        return self._ctx.request(
            "REGISTER",
            self._domain,
            from_=f"<{self._aor}>;tag={self._tag}",
            to=f"<{self._aor}>",
            call_id=self._call_id,
            cseq=self._next_cseq(),
            transport=self._hop.transport,
            routes=self._routes,
            extra=(
                # Ours alone, and never "*": others may be registered for this number (§10.2.2).
                ("Contact", f"{self._contact};expires={expires}"),
                ("Expires", str(expires)),
                ("Allow", ALLOW),
                ("Supported", ""),
            ),
        )

    def _next_cseq(self) -> int:
        self._cseq += 1
        return self._cseq

    # Its end (ClientUser)

    def on_response(self, response: Message, source: Hop) -> None:
        """Any response but a challenge that could be answered."""
        if response.code >= 200:
            attempt, self._attempt = self._attempt, None
            assert attempt is not None
            if self._removing:
                self._on_removed(response.code, readable(response.reason))
            else:
                self._on_final(response, attempt.verdict)
            self._go_on()

    def on_timeout(self) -> None:
        """Timer F."""
        self._on_no_response("no_response", "no answer")

    def on_unreachable(self) -> None:
        """Nobody is there."""
        assert self._attempt is not None
        if self._attempt.transaction.unresolved:
            self._on_no_response("unresolved", "the name has no address")
        else:
            self._on_no_response("unreachable", "unreachable")

    def _on_no_response(self, cause: Cause, why: str) -> None:
        self._attempt = None
        if self._removing:
            self._on_removed(0, why)
        else:
            self._on_failure(cause, None, "", slow=False)
        self._go_on()

    def _go_on(self) -> None:
        """Do what was asked for while a REGISTER was under way."""
        remove, self._remove_next = self._remove_next, False
        drop, self._drop_next = self._drop_next, False
        if remove and (self._unregistering or self._is_bound()):
            self._send(0)
        elif drop:
            self.drop()

    def _on_final(self, response: Message, verdict: str) -> None:
        code, reason = response.code, readable(response.reason)
        if code < 300:
            self._on_registered(response)
        elif verdict == "credentials":
            self._on_failure("credentials", code, reason, slow=True)
        elif code == 423 and self._take_min_expires(response):
            if self._wanted:
                self._ask_for_slot()
            else:
                self._end(self._registering, StackRefusal("superseded", "unregistered meanwhile"))
        else:
            slow = not (code in _TRANSIENT or 500 <= code < 600)
            wait = _seconds(response.headers.get("Retry-After")) or 0
            self._on_failure("rejected", code, reason, slow=slow, at_least=wait)

    def _on_registered(self, response: Message) -> None:
        granted = self._granted(response)
        if granted == 0:
            self._on_failure("rejected", response.code, "the contact was not kept", slow=True)
            return
        refresh = self._registered and self._is_bound()
        self._registered = True
        self._failures = self._too_brief = 0
        # From when it was sent: where the answer was lost, the time runs since the first copy.
        self._bound_until = self._sent_at + granted
        self._ctx.emit(
            Registered(
                registrar=self._server,
                expires=float(granted),
                refresh=refresh,
                delay=self._ctx.now - self._sent_at,
            )
        )
        self._end(self._registering, None)
        if self._wanted:
            # Not by what goes beyond our wish: nobody needs it, and it may be nonsense.
            due = self._sent_at + self._refresh_after(min(granted, self._expires))
            delay = max(due - self._ctx.now, _SHORTEST_REFRESH)
            self._timer = self._ctx.after(delay, self._ask_for_slot)

    def _on_failure(
        self, cause: Cause, code: int | None, reason: str, *, slow: bool, at_least: int = 0
    ) -> None:
        refresh, self._registered = self._registered, False
        self._failures += 1
        wait = None
        if self._wanted and cause != "credentials":
            wait = self._retry_after(at_least, slow=slow)
            self._timer = self._ctx.after(wait, self._ask_for_slot)
        self._ctx.emit(
            RegistrationFailed(
                registrar=self._server,
                cause=cause,
                code=code,
                reason=reason,
                retry_in=wait,
                refresh=refresh,
                delay=None if code is None else self._ctx.now - self._sent_at,
            )
        )
        why = f"{code} {reason}" if code else cause.replace("_", " ")
        self._end(self._registering, StackRefusal(cause, f"registrar {self._server}: {why}"))

    def _on_removed(self, code: int, why: str) -> None:
        confirmed = 200 <= code < 300
        self._registered = False
        if confirmed:
            self._bound_until = 0.0
        self._ctx.emit(Unregistered(registrar=self._server, confirmed=confirmed))
        refusal = None
        if not confirmed:
            text = f"{code} {why}" if code else why
            refusal = StackRefusal("rejected" if code else "no_response", f"{self._server}: {text}")
        self._end(self._unregistering, refusal)
        if self._wanted:
            self._ask_for_slot()

    # Times

    def _is_bound(self) -> bool:
        """Whether the registrar has us, as far as we know."""
        return self._ctx.now < self._bound_until

    def _granted(self, response: Message) -> int:
        """The seconds for our own contact in a 2xx (§10.2.4)."""
        contacts = list(_bindings(response))
        ours = [expires for key, expires in contacts if key == self._own]
        if not ours and len(contacts) == 1:
            # The only one is ours, whatever a server between has made of it.
            ours = [contacts[0][1]]
        known = [expires for expires in ours if expires is not None]
        if known:
            # Of several, the others were there before, from under another Call-ID.
            return max(known)
        general = _seconds(response.headers.get("Expires"))
        return self._expires if general is None else general

    def _refresh_after(self, granted: int) -> float:
        random = self._ctx.random()
        usual = granted * (0.75 + 0.15 * random)
        safe = max(granted - 64 * self._ctx.config.t1, granted / 2)
        return min(usual, safe * (0.9 + 0.1 * random))

    def _retry_after(self, at_least: int, *, slow: bool) -> float:
        exponent = min(self._failures - 1, 16)
        limit = _LAST_RETRY if slow else min(_FIRST_RETRY * 2**exponent, _LAST_RETRY)
        random = self._ctx.random()
        wait = limit * (0.5 + 0.5 * random)
        if self._is_bound():
            # Two tries, four … before it lapses.
            left = self._bound_until - self._ctx.now
            wait = min(wait, max(left / 2, _SHORTEST_REFRESH))
        return max(wait, min(at_least, _LONGEST_RETRY_AFTER) * (1 + 0.1 * random))

    def _take_min_expires(self, response: Message) -> bool:
        """Ask for what a 423 says is the least (§10.2.8); False if that makes no sense."""
        least = _seconds(response.headers.get("Min-Expires"))
        if least is None or not self._expires < least <= _LONGEST_EXPIRES:
            return False
        self._too_brief += 1
        if self._too_brief > _MOST_TOO_BRIEF:
            return False
        self._expires = least
        return True

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, commands: list[int], refusal: StackRefusal | None) -> None:
        """Tell those who wait, and forget them."""
        for command in commands:
            self._ctx.emit(CommandEnded(command, refusal))
        commands.clear()


def _seconds(text: str | None) -> int | None:
    """delta-seconds at the beginning of a header or parameter value; None if there are none."""
    match = _SECONDS.fullmatch(text or "")
    return None if match is None else int(match[1])


def _key(uri: SipUri) -> tuple[str, str, int]:
    """What identifies a binding: URI equality (§19.1.4), as far as our own Contact goes.

    The default port counts as written, and parameters do not count: registrars add and drop them.
    """
    return uri.user_name, uri.host.lower(), uri.port or DEFAULT_PORT


def _bindings(response: Message) -> Iterator[tuple[tuple[str, str, int], int | None]]:
    """Contacts of a 2xx to REGISTER with their seconds; what is no SIP URI is left out."""
    for value in response.headers.values("Contact"):
        try:
            contact = NameAddr.parse(value)
            yield _key(SipUri.parse(contact.uri)), _seconds(contact.params.get("expires"))
        except UriError:
            continue
