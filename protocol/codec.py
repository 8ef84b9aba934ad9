"""Bytes to messages and back.  Any bytes give a message of the right direction or ProtocolError."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from .errors import ProtocolError
from .events import Event
from .messages import (
    PROTOCOL_VERSION,
    ClientMessage,
    Envelope,
    Message,
    SupervisorToClient,
    SupervisorToWorker,
    WorkerMessage,
)

__all__ = [
    "MAX_MESSAGE",
    "MAX_REQUEST",
    "Codec",
    "EncodedEvents",
    "encode",
    "encode_event",
    "from_client",
    "from_supervisor_to_client",
    "from_supervisor_to_worker",
    "from_worker",
]

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes; ``ZMQ_MAXMSGSIZE`` of every socket.  A snapshot of 1,500 phones is about 0.5 MB."""

MAX_REQUEST = 1024 * 1024
"""Bytes; the limit for what clients send.  To add 1,500 phones takes about 0.5 MB."""

_encoder = msgspec.msgpack.Encoder()

B = TypeVar("B")


def encode(envelope: Envelope[Any]) -> bytes:
    """The envelope as MessagePack."""
    return _encoder.encode(envelope)


class EncodedEvents(Message, frozen=True, kw_only=True, tag="events"):
    """``Events`` on the wire, for a sender that encodes each event once for all who read it."""

    events: tuple[msgspec.Raw, ...]


def encode_event(event: Event) -> bytes:
    """What EncodedEvents are made of."""
    return _encoder.encode(event)


class Codec(Generic[B]):
    """Decodes the messages of one direction."""

    def __init__(self, body: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[Envelope[B]] = msgspec.msgpack.Decoder(
            Envelope[body]
        )

    def decode(self, data: bytes) -> Envelope[B]:
        """Return the message; raises ProtocolError, and nothing else, for any other bytes."""
        try:
            envelope = self._decoder.decode(data)
        # RecursionError: nested arrays beyond the interpreter's depth.
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"not a message of this protocol: {error}") from None
        if envelope.version != PROTOCOL_VERSION:
            raise ProtocolError(
                f"protocol version {envelope.version}, this side speaks {PROTOCOL_VERSION}"
            )
        return envelope


from_client: Codec[ClientMessage] = Codec(ClientMessage)
from_worker: Codec[WorkerMessage] = Codec(WorkerMessage)
from_supervisor_to_client: Codec[SupervisorToClient] = Codec(SupervisorToClient)
from_supervisor_to_worker: Codec[SupervisorToWorker] = Codec(SupervisorToWorker)
