"""Gearman end to end in Python: job server, client, worker and command line."""

__version__ = "0.1.0"
