"""Run baresip as one party of a call: the second witness, an ordinary user agent of its own make.

It answers by itself, sends a tone, writes what it hears to files, and is driven over its
control socket (module ctrl_tcp: JSON in netstrings), which also reports what happens.
"""

from __future__ import annotations

import json
import math
import signal
import socket
import struct
import subprocess
import time
import wave
from pathlib import Path
from typing import Any

from peers.sipp import free_port, loopback_address, wait_for

__all__ = ["Baresip"]

_MODULES = Path("/usr/lib/baresip/modules")
_CONFIG = """\
sip_listen {host}:{port}
module_path {modules}
module g711.so
module aufile.so
module sndfile.so
module_app account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen {host}:{control}
audio_source aufile,{folder}/said.wav
snd_path {folder}
statmode_default off
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
call_max_calls 4
"""


def _write_tone(path: Path, seconds: int = 60) -> None:
    """400 Hz at the rate of G.711: a period is 20 samples."""
    period = [round(8000 * math.sin(2 * math.pi * i / 20)) for i in range(20)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<20h", *period) * (400 * seconds))


class Baresip:
    """One baresip process with one account.

    Args:
        program: its path.
        folder: where its files go.
        user: of its account.
        account: parameters of it, such as ``;regint=60;auth_pass=secret``.
        domain: of its address, for a user of a server; None is its own address and port.
        address: to listen on, IPv4 or IPv6; None takes one of its own.
        answers: at once, by itself. Otherwise it rings until `accept`.
    """

    def __init__(
        self,
        program: str,
        folder: Path,
        *,
        user: str = "bob",
        domain: str | None = None,
        account: str = ";regint=0",
        address: str | None = None,
        answers: bool = True,
    ) -> None:
        self._user = user
        self.address = address or loopback_address()
        self._family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self._host = f"[{self.address}]" if ":" in self.address else self.address
        self.port = free_port(self.address)
        control = free_port(self.address)
        (folder / "config").write_text(
            _CONFIG.format(
                host=self._host,
                port=self.port,
                control=control,
                modules=_MODULES,
                folder=folder,
            )
        )
        mode = "auto" if answers else "manual"
        aor = f"sip:{user}@{domain or f'{self._host}:{self.port}'}"
        (folder / "accounts").write_text(f"<{aor}>{account};answermode={mode}\n")
        (folder / "contacts").touch()
        _write_tone(folder / "said.wav")
        self._folder = folder
        self._log = folder / "baresip.log"
        family = "-6" if self._family == socket.AF_INET6 else "-4"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-f", str(folder), family, "-n", self.address],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._unread = b""
        self._events: list[dict[str, Any]] = []
        self._socket = socket.socket()
        try:
            self._socket = wait_for(lambda: self._connect(control), "baresip's control socket")
            self._command("reginfo")  # answered: the user agent is up
        except BaseException:
            self.close()
            raise

    @property
    def uri(self) -> str:
        """Where it can be called without a server."""
        return f"sip:{self._user}@{self._host}:{self.port}"

    def _connect(self, port: int) -> socket.socket | None:
        if self._process.poll() is not None:
            raise RuntimeError(f"baresip ended by itself:\n{self.log()}")
        self._socket.close()
        self._socket = socket.socket(self._family)
        return None if self._socket.connect_ex((self.address, port)) else self._socket

    def dial(self, uri: str) -> None:
        self._command("dial", uri)

    def heard(self) -> list[Path]:
        """A recording of what it heard in each call, oldest first; whole when the call is over."""
        return sorted(self._folder.glob("dump-*-dec.wav"))

    def ask_options(self, uri: str) -> None:
        """Send OPTIONS; the answer appears in its log."""
        self._command("options", uri)

    def accept(self) -> None:
        self._command("accept")

    def hold(self) -> None:
        self._command("hold")

    def retrieve(self) -> None:
        self._command("resume")

    def transfer(self, uri: str) -> None:
        """Blind."""
        self._command("transfer", uri)

    def reinvite(self) -> None:
        self._command("reinvite")

    def press(self, key: str) -> None:
        """One DTMF digit, as RTP events (RFC 4733)."""
        self._command("sndcode", key)

    def hang_up(self) -> None:
        self._command("hangup")

    def calls_up(self) -> int:
        """Calls that it counts as established."""
        return str(self._command("listcalls").get("data", "")).count("ESTABLISHED")

    def wait_event(self, kind: str, timeout: float = 10.0) -> dict[str, Any]:
        """The oldest event of this type (``CALL_ESTABLISHED`` …) not yet returned."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self._events:
                if event["type"] == kind:
                    self._events.remove(event)
                    return event
            self._read(deadline, f"baresip's event {kind}")

    def _command(self, command: str, parameters: str = "") -> dict[str, Any]:
        text = json.dumps({"command": command, "params": parameters, "token": "sipherd"}).encode()
        self._socket.sendall(b"%d:%b," % (len(text), text))
        deadline = time.monotonic() + 10
        while (message := self._read(deadline, f"baresip's answer to {command}")) in self._events:
            pass
        return message

    def _read(self, deadline: float, what: str) -> dict[str, Any]:
        """The next message; an event is also kept."""
        while not self._complete():
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise TimeoutError(f"{what}: not in time\n{self.log()}") from None
            if not data:
                raise RuntimeError(f"baresip closed its control socket\n{self.log()}")
            self._unread += data
        length, _, rest = self._unread.partition(b":")
        text, self._unread = rest[: int(length)], rest[int(length) + 1 :]
        message: dict[str, Any] = json.loads(text)
        if message.get("event"):
            self._events.append(message)
        return message

    def _complete(self) -> bool:
        length, colon, rest = self._unread.partition(b":")
        return bool(colon) and len(rest) > int(length)

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]

    def close(self) -> None:
        """End it if it still runs."""
        self._socket.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
