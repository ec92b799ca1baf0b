"""Text, pictures and videos, read, checked and written: where files are decoded and encoded.

It needs NumPy, OpenCV and Pillow alone, so the builders of the data sets use it as well.
"""
