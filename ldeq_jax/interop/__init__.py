"""Models in the formats of other programs: the released PyTorch checkpoints, read and written."""
