"""Shared by all packages: errors, seeding, settings, the terminal, atomic files."""
