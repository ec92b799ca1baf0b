"""Labels of films by several models that need not agree, as a data set: `ldeq label`."""
