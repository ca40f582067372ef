"""Training: the loop, its two tasks, losses, optimizers, several processes, metrics."""
