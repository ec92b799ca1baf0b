"""Pictures and videos, read, checked and written: the only place that decodes or encodes files.

It needs NumPy, OpenCV and Pillow alone, so the builders of the data sets use it as well.
"""
