"""Everything that sipherd takes from pyVoIP; no other package imports it.

Used: ``SIPStatus`` and its phrases, the ``SIPMessage`` data model, its SDP line parser,
``PayloadType``, ``TransmitType``, its RTP header parser.  Not used: its transport, its header
parser, its request builders and its threads (``docs/`` tells what was measured).  Importing this
package starts no thread and opens no socket.
"""

from __future__ import annotations

from ._names import PayloadType, SIPMessageType, SIPStatus, TransmitType
from .model import MessageModel, phrase, status
from .rtp import RTPMessage, RTPParseError, read_rtp
from .sdp import Section, parse_sections

__all__ = [
    "MessageModel",
    "PayloadType",
    "RTPMessage",
    "RTPParseError",
    "SIPMessageType",
    "SIPStatus",
    "Section",
    "TransmitType",
    "parse_sections",
    "phrase",
    "read_rtp",
    "status",
]
