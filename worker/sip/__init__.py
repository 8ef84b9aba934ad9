"""The SIP engine: a user agent without socket, clock or thread (RFC 3261)."""
