"""Synthesisers, and folders of clips that they say."""
