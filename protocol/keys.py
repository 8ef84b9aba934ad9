"""Keys for clients of other machines (CURVE): the server's own, those it lets in, and a client's.

One directory serves all herds of a user: `server.json` holds the server's key pair, `clients.json`
the public keys that are let in, by name.  A client gets a file of its own with the server's public
key and a key pair.  What is secret is in files that nobody else may read, and never in a log.

Every change of the list replaces the file as a whole: a reader sees the old or the new one.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import zmq

from .errors import KeyNotFound, KeysError
from .spec import check_name

__all__ = ["AllowedKey", "ClientKey", "KeyStore", "ServerKey", "keys_dir", "load_client_key"]

# 32 bytes in Z85 (ZeroMQ's RFC 32).
_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_MAX_SIZE = 1024 * 1024
_REMEDY = "name another directory with --keys-dir or SIPHERD_KEYS_DIR"

T = TypeVar("T")


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError("not a key of 40 characters")


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is in key files.  Shows nothing secret."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            if field in ("public", "secret", "server"):
                _check_key(getattr(self, field))
            if field == "name":
                check_name(getattr(self, field))

    def __repr__(self) -> str:
        fields = self.__struct_fields__
        shown = (f"{name}={getattr(self, name)!r}" for name in fields if name != "secret")
        return f"{type(self).__name__}({', '.join(shown)})"


class ServerKey(_Struct, frozen=True, kw_only=True):
    """The key pair by which clients know that it is their herd."""

    public: str
    secret: str


class AllowedKey(_Struct, frozen=True, kw_only=True):
    """A client that is let in."""

    name: str
    public: str
    made: str
    """Date, such as `2026-11-24`."""


class ClientKey(_Struct, frozen=True, kw_only=True):
    """What a client proves itself with, and knows its herd by."""

    name: str
    server: str
    public: str
    secret: str


def keys_dir(explicit: Path | None, environ: Mapping[str, str]) -> Path:
    """The directory of the keys, absolute; it may not exist yet.

    The first that applies: `explicit`, SIPHERD_KEYS_DIR, XDG_CONFIG_HOME/sipherd/keys, else
    ~/.config/sipherd/keys.
    """
    if explicit is not None:
        found = explicit
    elif text := environ.get("SIPHERD_KEYS_DIR"):
        found = Path(text)
    elif text := environ.get("XDG_CONFIG_HOME"):
        found = Path(text, "sipherd", "keys")
    else:
        found = Path(environ.get("HOME") or Path.home(), ".config", "sipherd", "keys")
    return found.absolute()


def load_client_key(path: Path) -> ClientKey:
    """A client's key from its file.

    Raises:
        KeysError: it can't be read, others can read it, or it is no such file.
    """
    return _read(path, ClientKey, "key file", others=0o077)


class KeyStore:
    """The keys in a directory.  All methods raise KeysError if files can't be used as they are.

    A file or directory is not used if it belongs to somebody else, or if others could change it
    or, where it holds a secret, read it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._server = directory / "server.json"
        self._clients = directory / "clients.json"

    def server(self) -> ServerKey:
        """The server's key pair."""
        self._check_directory()
        if not self._server.exists():
            raise KeysError(
                f"no keys in {self.directory}; make the first with: sipherd keys new NAME"
            )
        return _read(self._server, ServerKey, "server key", others=0o077, own=True)

    def allowed(self) -> tuple[AllowedKey, ...]:
        """The keys that are let in, oldest first; none if there is no list."""
        self._check_directory()
        if not self._clients.exists():
            return ()
        kind = "list of keys"
        return tuple(_read(self._clients, list[AllowedKey], kind, others=0o022, own=True))

    def stamp(self) -> tuple[int, ...] | None:
        """Differs whenever the list has changed; None if there is none."""
        try:
            found = self._clients.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def new(self, name: str, made: str) -> ClientKey:
        """Make a key pair, let its public key in, and return both.

        The secret is kept nowhere.  The server's key pair is made with the first client's.
        """
        try:
            check_name(name)
        except ValueError as error:
            raise KeysError(f'key name "{name}": {error}') from None
        with self._locked():
            allowed = self.allowed()
            if any(key.name == name for key in allowed):
                raise KeysError(
                    f'there is a key "{name}" already; take another name, or revoke it with: '
                    f"sipherd keys revoke {name}"
                )
            if not self._server.exists():
                public, secret = _pair()
                _write(self._server, ServerKey(public=public, secret=secret))
            server = self.server()
            public, secret = _pair()
            _write(self._clients, [*allowed, AllowedKey(name=name, public=public, made=made)])
        return ClientKey(name=name, server=server.public, public=public, secret=secret)

    def revoke(self, name: str) -> None:
        """Let a key in no longer.  Raises KeyNotFound."""
        if not self.directory.exists():
            raise KeyNotFound(name)
        with self._locked():
            allowed = self.allowed()
            kept = [key for key in allowed if key.name != name]
            if len(kept) == len(allowed):
                near = difflib.get_close_matches(name, [key.name for key in allowed])
                raise KeyNotFound(name, near)
            _write(self._clients, kept)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The directory is there, and nobody else changes it."""
        with _as_keys_error("directory of keys", self.directory, _REMEDY):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_directory()
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _check_directory(self) -> None:
        try:
            found = self.directory.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise KeysError(f"directory of keys {self.directory}: {error.strerror}") from None
        _check_access(found, "directory of keys", self.directory, others=0o077, own=True)


def _pair() -> tuple[str, str]:
    try:
        public, secret = zmq.curve_keypair()
    except zmq.ZMQError:
        raise KeysError("this libzmq was built without CURVE; install pyzmq from PyPI") from None
    return public.decode(), secret.decode()


def _read(path: Path, type: type[T], kind: str, *, others: int, own: bool = False) -> T:
    """What the file holds.  `others` are the mode bits that it must not have."""
    with _as_keys_error(kind, path):
        # O_NONBLOCK: a pipe in its place is no reason to wait.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise KeysError(f"{kind} {path}: not a file")
            _check_access(found, kind, path, others=others, own=own)
            data = os.read(fd, _MAX_SIZE)
        finally:
            os.close(fd)
    try:
        return msgspec.json.decode(data, type=type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Without the reason, which could quote a secret.
        raise KeysError(
            f"{kind} {path}: not as sipherd writes it; make a key with: sipherd keys new NAME"
        ) from None


def _check_access(found: os.stat_result, kind: str, path: Path, *, others: int, own: bool) -> None:
    if own and found.st_uid != os.geteuid():
        raise KeysError(f"{kind} {path}: owned by user {found.st_uid}, not by you; {_REMEDY}")
    if found.st_mode & others:
        mode = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise KeysError(f"{kind} {path}: others may use it; chmod {mode} {path}")


def _write(path: Path, content: object) -> None:
    """Replace the file as a whole, for its owner alone."""
    data = msgspec.json.format(msgspec.json.encode(content)) + b"\n"
    with _as_keys_error("directory of keys", path.parent, _REMEDY):
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # 0600
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _as_keys_error(kind: str, path: Path, remedy: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        tail = f"; {remedy}" if remedy else ""
        raise KeysError(f"{kind} {path}: {error.strerror}{tail}") from None
