"""The process that owns ports, phone table, control socket and event stream."""
