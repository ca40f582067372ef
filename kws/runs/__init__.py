"""Run folders, and tables over many runs."""
