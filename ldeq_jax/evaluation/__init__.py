"""Errors of a trained model on data sets of stills and of videos."""
