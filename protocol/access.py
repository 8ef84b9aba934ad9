"""What clients of other machines may ask for.

Who has a key may do with the herd's phones and calls whatever a local client may.  What names files
of the supervisor's machine, or would run code there, is for local clients of the same user alone: a
key is not a login.  A kind of message that is in neither set is refused, so that one that is added
must be decided upon.
"""

from __future__ import annotations

from .messages import (
    AddPhones,
    AnswerCall,
    AwaitIncoming,
    CancelCall,
    ClientMessage,
    GetHerd,
    HangUpCall,
    HoldCall,
    InjectFault,
    Leave,
    ListCalls,
    ListPhones,
    Message,
    PlaceCall,
    PlayAudio,
    RecordAudio,
    RegisterPhone,
    RejectCall,
    Reload,
    RemovePhones,
    ResetPhones,
    RestartPhones,
    RetrieveCall,
    SendDtmf,
    StartPhones,
    StopAudio,
    StopHerd,
    StopPhones,
    StopRecording,
    Subscribe,
    TransferCall,
    UnregisterPhone,
    Unsubscribe,
    Withdraw,
)

__all__ = ["FROM_ANYWHERE", "LOCAL_ONLY", "why_local_only"]

LOCAL_ONLY: frozenset[type[Message]] = frozenset({RecordAudio})
"""Refused with ``local_only`` when they come from another machine."""

FROM_ANYWHERE: frozenset[type[Message]] = frozenset(
    {
        AddPhones,
        AnswerCall,
        AwaitIncoming,
        CancelCall,
        GetHerd,
        HangUpCall,
        HoldCall,
        InjectFault,
        Leave,
        ListCalls,
        ListPhones,
        PlaceCall,
        PlayAudio,
        RegisterPhone,
        RejectCall,
        Reload,
        RemovePhones,
        ResetPhones,
        RestartPhones,
        RetrieveCall,
        SendDtmf,
        StartPhones,
        StopAudio,
        StopHerd,
        StopPhones,
        StopRecording,
        Subscribe,
        TransferCall,
        UnregisterPhone,
        Unsubscribe,
        Withdraw,
    }
)


def why_local_only(body: ClientMessage) -> str:
    """Why a client of another machine may not ask for this; empty if it may."""
    match body:
        case AddPhones(behaviours=behaviours) if behaviours:
            what = "for phones with a behaviour, which is code that runs there"
        case RecordAudio():
            what = "to record, which writes a file there"
        case PlayAudio(source=source) if source.startswith("/"):
            what = "to play a file of it; silence, echo and tone:HZ can be played from here"
        case _ if type(body) in FROM_ANYWHERE:
            return ""
        case _:
            what = f"for {type(body).__name__}"
    return f"only a client on the herd's own machine may ask {what}"
