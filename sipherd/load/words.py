"""Sentences that page, summary and comparison share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .axes import length, number
from .findings import Report

__all__ = ["code_name", "headline", "planned", "state_word"]

#: Reason phrases of RFC 3261 section 21 and its extensions, for codes that came from peers.
_CODES = {
    100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 182: "Queued",
    183: "Session Progress", 199: "Early Dialog Terminated", 200: "OK", 202: "Accepted",
    300: "Multiple Choices", 301: "Moved Permanently", 302: "Moved Temporarily",
    305: "Use Proxy", 380: "Alternative Service", 400: "Bad Request", 401: "Unauthorized",
    402: "Payment Required", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout",
    410: "Gone", 413: "Request Entity Too Large", 414: "Request-URI Too Long",
    415: "Unsupported Media Type", 416: "Unsupported URI Scheme", 420: "Bad Extension",
    421: "Extension Required", 422: "Session Interval Too Small", 423: "Interval Too Brief",
    433: "Anonymity Disallowed", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops",
    484: "Address Incomplete", 485: "Ambiguous", 486: "Busy Here", 487: "Request Terminated",
    488: "Not Acceptable Here", 491: "Request Pending", 493: "Undecipherable",
    500: "Server Internal Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Server Time-out", 505: "Version Not Supported",
    513: "Message Too Large", 580: "Precondition Failure", 600: "Busy Everywhere",
    603: "Decline", 604: "Does Not Exist Anywhere", 606: "Not Acceptable",
}  # fmt: skip


def code_name(code: int) -> str:
    """The reason phrase that the RFCs give the code; empty if they give none."""
    return _CODES.get(code, "")


def state_word(report: Report) -> str:
    """What to call a run that has no verdict."""
    return {"running": "RUNNING", "draining": "DRAINING", "interrupted": "INTERRUPTED"}.get(
        report.facts.state, "NO VERDICT"
    )


def planned(profile: Mapping[str, Any]) -> float | None:
    """For how many seconds calls start, as a run's facts have its profile; None: it is not said."""
    duration = profile.get("duration")
    if isinstance(duration, int | float):
        return float(duration)
    try:
        seconds = sum(float(stage["seconds"]) for stage in profile["arrival"]["stages"])
    except (KeyError, TypeError, ValueError):
        return None
    return seconds or None


def headline(report: Report) -> str:
    """The run in a sentence."""
    took = length(report.seconds)
    if report.calls:
        calls = "1 call" if report.calls == 1 else f"{report.calls:,} calls"
        share = number(100 * report.as_intended / report.calls, "%")
        words = f"{calls} in {took}; {share} ended as intended"
        missed = report.calls - report.as_intended
        words += f", {missed:,} did not." if missed else "."
    else:
        words = f"No call in {took}."
    return words if report.judgement.word else f"{words} {_unjudged(report)}"


def _unjudged(report: Report) -> str:
    match report.facts.state:
        case "running" | "draining":
            return "The run goes on: this is what was recorded until now; no gate judged it yet."
        case "interrupted":
            return (
                "The run was interrupted: this is what was recorded until then; no gate judged it."
            )
    return "No gate judged it."
