"""Faces as numbers: geometry, schemas, crops, metrics and filters; needs no jax."""
