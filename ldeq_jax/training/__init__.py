"""Training: state, optimiser, step, loop, checkpoints, log."""
