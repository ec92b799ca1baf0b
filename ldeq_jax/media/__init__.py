"""Files, pictures and videos: read, checked and written. Only here they are decoded and encoded.

It needs NumPy, OpenCV and Pillow alone, so that the builders of the data sets can use it too.
"""
