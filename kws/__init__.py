"""kws: a keyword-spotting trainer with hard-negative replay."""

__version__ = "0.1.0"
