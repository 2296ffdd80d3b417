"""Seeing what goes on: the log, the journal of what happened last, health and metrics on a port of their own."""
