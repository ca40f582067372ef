"""Checks of recordings before anyone trains: each is a pure function that returns findings."""
