"""What is known of names: /etc/hosts, and the name servers of this machine (dnspython).

Everything here blocks, for seconds: it is called in threads (`resolve.Resolver`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from pathlib import Path

import dns.exception
import dns.rdatatype
import dns.resolver

from .locate import NameFailure, Service

__all__ = ["HOSTS", "SystemNames", "system_resolver"]

HOSTS = Path("/etc/hosts")


def system_resolver() -> dns.resolver.Resolver:
    """Asks the name servers of /etc/resolv.conf, as they are now."""
    return dns.resolver.Resolver()


class SystemNames:
    """Names of hosts, for sockets of one address family; implements `locate.Names`."""

    def __init__(self, family: int) -> None:
        self._version = 6 if family == socket.AF_INET6 else 4

    def local(self, name: str) -> list[str]:
        """From /etc/hosts, and RFC 6761's localhost."""
        wanted = name.rstrip(".").lower()
        found = [host for host, names in _hosts() if wanted in names and self._fits(host)]
        if not found and (wanted == "localhost" or wanted.endswith(".localhost")):
            return ["::1" if self._version == 6 else "127.0.0.1"]
        return found

    def addresses(self, name: str) -> tuple[list[str], float]:
        """A or AAAA records.  Raises NameFailure."""
        answer = _ask(name, "AAAA" if self._version == 6 else "A")
        return [record.address for record in answer], answer.chaining_result.minimum_ttl

    def services(self, name: str) -> tuple[list[Service], float]:
        """SRV records.  Raises NameFailure."""
        answer = _ask(name, "SRV")
        services = [
            Service(
                record.priority,
                record.weight,
                record.port,
                record.target.to_text(omit_final_dot=True).removesuffix("."),
            )
            for record in answer
        ]
        return services, answer.chaining_result.minimum_ttl

    def _fits(self, host: str) -> bool:
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(host).version == self._version
        return False


def _hosts() -> list[tuple[str, list[str]]]:
    """Address and lower-case names of each line of /etc/hosts."""
    try:
        text = HOSTS.read_text(errors="replace")
    except OSError:
        return []
    lines = (line.partition("#")[0].lower().split() for line in text.splitlines())
    return [(words[0], words[1:]) for words in lines if len(words) > 1]


def _ask(name: str, kind: str) -> dns.resolver.Answer:
    try:
        # As the C library would: with the search list of /etc/resolv.conf.
        return system_resolver().resolve(name, kind, search=True)
    except dns.resolver.NXDOMAIN:
        raise NameFailure("no such name", known=True) from None
    except dns.resolver.NoAnswer:
        raise NameFailure(f"no {kind} record", known=True) from None
    except dns.resolver.LifetimeTimeout:
        raise NameFailure("no name server answers") from None
    except dns.resolver.NoNameservers:  # SERVFAIL; for SRV alone some do that
        raise NameFailure("the name servers fail", known=kind == "SRV") from None
    except dns.resolver.NoResolverConfiguration:
        raise NameFailure("no name server is configured (/etc/resolv.conf)") from None
    except (dns.exception.DNSException, UnicodeError) as error:  # no label may be so long
        raise NameFailure(str(error) or "not a host name", known=True) from None
    except OSError as error:
        raise NameFailure(error.strerror or str(error)) from None
