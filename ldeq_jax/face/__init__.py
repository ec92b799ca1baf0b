"""Faces as numbers: landmarks, boxes, crops, schemas, metrics and filters; needs no jax."""
