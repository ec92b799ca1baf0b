"""Files, pictures and videos: read, checked and written. Only here they are decoded and encoded.

It needs NumPy, OpenCV and Pillow alone, so that the builders of the data sets can use it too.
"""

import os

# FFmpeg prints a line for each packet that a damaged film lacks, a thousand of them, and with them
# hides what is said of the film here. OpenCV reads this when it first opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "8")  # AV_LOG_FATAL
