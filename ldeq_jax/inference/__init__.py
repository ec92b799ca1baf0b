"""A trained model on pictures and videos without labels.

`pictures` and `videos` hold the predictors, `tracker` and `tracks` follow one face through a film,
`detection` finds faces, and `picture_file` and `video_file` go from a file to written results.
Errors on labelled data sets are measured by `evaluation`.
"""
