"""The process of one phone, and the nursery that forks it."""
