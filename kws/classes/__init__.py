"""Clips that are each one of several classes: trained with cross-entropy, told by accuracy."""
