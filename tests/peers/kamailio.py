"""Run Kamailio as registrar and proxy: a server of its own make, and the witness for digest.

It challenges every request outside of a dialog (401 for REGISTER, 407 for the others), remembers
registrations in memory, puts itself into the route of every call, and refuses what does not take
that route. `kamailio.cfg` has the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

from peers.sipp import free_port, loopback_address, wait_for

__all__ = ["Contact", "Kamailio", "Request"]

_CONFIG = Path(__file__).with_name("kamailio.cfg")
_REQUEST = re.compile(r"request (\S+) (\S+) id (\S+ \d+) from (\S+) route (.*) reason (.*)")


class Contact(NamedTuple):
    """One registered contact."""

    uri: str
    expires: int
    """Seconds that are left."""
    call_id: str
    cseq: int


class Request(NamedTuple):
    """A request as Kamailio received it."""

    method: str
    uri: str
    source: str
    """``udp:127.1.2.3:5060``"""
    route: str
    """The first Route header; ``<null>`` if there is none."""
    reason: str


class Kamailio:
    """One Kamailio, listening on UDP and TCP.

    Args:
        program: its path.
        folder: where its log goes.
        algorithm: of the digest challenge; None names none, which means MD5.
        nonce_expire: seconds after which a nonce is stale.
        min_expires: a registration for fewer seconds gets 423.
        max_expires: a registration for more seconds is shortened to it.
        challenge_all: requests within a dialog are challenged, too.
        address: to listen on, IPv4 or IPv6; None takes one of its own.
        port: likewise.
        advertise: what it shows instead of its address.
    """

    def __init__(
        self,
        program: str,
        folder: Path,
        *,
        algorithm: Literal["SHA-256", "MD5"] | None = None,
        nonce_expire: int = 300,
        min_expires: int = 1,
        max_expires: int = 3600,
        challenge_all: bool = False,
        address: str | None = None,
        port: int | None = None,
        advertise: str | None = None,
    ) -> None:
        self.address = address or loopback_address()
        self.port = port or free_port(self.address)
        self.hostport = f"[{self.address}]" if ":" in self.address else self.address
        self.hostport += f":{self.port}"
        listen = f"{self.hostport}/{advertise}:{self.port}" if advertise else self.hostport
        # A socket's path has at most 107 bytes.
        self._run = Path(tempfile.mkdtemp(dir="/tmp", prefix="sh-kamailio-"))
        self._rpc = self._run / "rpc"
        defines: dict[str, object] = {
            "ALIAS": f'"{self.address}"',
            "RPC_SOCKET": f'"{self._rpc}"',
            "NONCE_EXPIRE": nonce_expire,
            "MIN_EXPIRES": min_expires,
            "MAX_EXPIRES": max_expires,
        }
        if algorithm is not None:
            defines["ALGORITHM"] = f'"{algorithm}"'
        if challenge_all:
            defines["CHALLENGE_ALL"] = 1
        self._log = folder / "kamailio.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    *("-DD", "-E", "-f", str(_CONFIG), "-Y", str(self._run), "-m", "32", "-M", "8"),
                    *("-l", f"udp:{listen}", "-l", f"tcp:{listen}"),
                    *(f"-A{name}={value}" for name, value in defines.items()),
                ],
                cwd=self._run,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(self._is_up, f"Kamailio on {self.hostport}", timeout=15)
        except BaseException as error:
            error.add_note(self.log())
            self.close()
            raise

    def password(self, username: str) -> str:
        """The password of any user."""
        return f"secret-{username}"

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError("Kamailio ended by itself")
        if not self._rpc.exists():
            return False
        with contextlib.suppress(OSError):
            return bool(self.rpc("core.version"))
        return False

    def rpc(self, method: str, *parameters: object) -> Any:
        """The result of a JSON-RPC command such as ``ul.lookup``.

        Raises:
            LookupError: it answers with an error, such as "AOR not found".
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            reply = self._run / "reply"
            reply.unlink(missing_ok=True)
            sock.bind(str(reply))
            sock.settimeout(10)
            request = {"jsonrpc": "2.0", "method": method, "params": parameters, "id": 1}
            sock.sendto(json.dumps(request).encode(), str(self._rpc))
            answer = json.loads(sock.recv(1 << 20))
        if "error" in answer:
            raise LookupError(f"{method} {parameters}: {answer['error']}")
        return answer["result"]

    def contacts(self, user: str) -> list[Contact]:
        """What is registered for this user now; what has expired is not."""
        try:
            found = self.rpc("ul.lookup", "location", user)
        except LookupError:
            return []
        return [
            Contact(entry["Address"], entry["Expires"], entry["Call-ID"], entry["CSeq"])
            for entry in (item["Contact"] for item in found["Contacts"])
            # 0 is the one that has expired and is not yet removed.
            if isinstance(entry["Expires"], int) and entry["Expires"] > 0
        ]

    def requests(self, method: str) -> list[Request]:
        """The requests of this method that it received so far, a retransmitted one once."""
        found = {
            id: Request(name, uri, *rest)
            for name, uri, id, *rest in _REQUEST.findall(self._log.read_text())
            if name == method
        }
        return list(found.values())

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]

    def close(self) -> None:
        """End it with all its processes, and remove what it keeps outside of its folder.

        Harmless when repeated.
        """
        if not self._run.exists():
            return
        self._process.terminate()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            # Its processes would stay, were only the first of them killed.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for path in self._run.iterdir():
            path.unlink()
        self._run.rmdir()
