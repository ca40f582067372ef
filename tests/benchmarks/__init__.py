"""Measurements of speed: `make bench`. Machines are noisy, so what is compared is measured in one run, as ratios."""
