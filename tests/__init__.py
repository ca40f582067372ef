"""Known answers and real behaviour; the folders mirror those of kws/."""

from pathlib import Path

ROOT = Path(__file__).parent.parent  # of the checkout
