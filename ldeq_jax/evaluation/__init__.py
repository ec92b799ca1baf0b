"""Errors of a trained model on labelled data sets of stills and of videos.

`evaluate` runs an evaluation from end to end. Predicting without labels is in `inference`.
"""
