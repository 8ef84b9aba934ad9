"""pyVoIP's names, imported in the one order that works."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # pyVoIP imports audioop, which Python 3.11 and 3.12 warn about; 3.13 needs audioop-lts.
    warnings.filterwarnings("ignore", "'audioop' is deprecated", DeprecationWarning)
    # pyVoIP.SIP imports pyVoIP.VoIP.status, whose package imports pyVoIP.SIP: unless pyVoIP.VoIP
    # comes first this is an ImportError.
    import pyVoIP.VoIP
from pyVoIP.RTP import PayloadType, RTPMessage, RTPParseError, TransmitType
from pyVoIP.SIP import SIPMessage, SIPMessageType, SIPStatus

__all__ = [
    "PayloadType",
    "RTPMessage",
    "RTPParseError",
    "SIPMessage",
    "SIPMessageType",
    "SIPStatus",
    "TransmitType",
    "pyVoIP",
]
