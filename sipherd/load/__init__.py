"""Load for hours or days: profile, records, metrics, verdict, report."""
