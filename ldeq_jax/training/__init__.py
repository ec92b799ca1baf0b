"""The training run: state, step, checkpoints."""
