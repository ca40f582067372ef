"""Keyword models, one file a family."""
