"""Faces and videos of the data sets as batches."""
