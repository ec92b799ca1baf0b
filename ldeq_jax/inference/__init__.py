"""A trained model on pictures and videos without labels.

`pictures` and `videos` hold the predictors, and `detection` finds faces. `follower` and `tracks`
follow one face through a film, `tracker` all faces, with ids. `picture_file` and `video_file` go
from a file to written results.
Errors on labelled data sets are measured by `evaluation`.
"""
