"""Audio of calls: RTP and RTCP, codecs, sources, recordings, DTMF, quality; no socket, no clock."""
