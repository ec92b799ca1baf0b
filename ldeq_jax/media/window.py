"""A window that shows pictures, by OpenCV: `Window`; and whether there can be one."""

import os
import re
import subprocess
import sys

import cv2
import numpy as np

CLOSED = "\x1b"  # the key that a window reports once it is closed: Escape

_TRIAL = "import cv2; cv2.namedWindow('ldeq'); cv2.waitKey(1)"
_TRIAL_SECONDS = 30


class Window:
    """A window on the screen.

    Args:
        title: of the window.
    """

    def __init__(self, title: str):
        self._title, self._size = title, (0, 0)
        # Qt warns that the wheels of OpenCV have no fonts, which are needed for buttons alone.
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
        kind = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        cv2.namedWindow(title, kind)

    def show(self, picture: np.ndarray) -> str:
        """Shows a picture.

        Args:
            picture: (H, W, 3) uint8 RGB. The window takes the size of the first.

        Returns:
            The key that was pressed since the last, "" if none was, `CLOSED` if the window was
            closed.
        """
        if not any(self._size):
            self._size = picture.shape[1], picture.shape[0]
            cv2.resizeWindow(self._title, *self._size)
        cv2.imshow(self._title, np.ascontiguousarray(picture[..., ::-1]))
        key = cv2.waitKey(1)
        if cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
            return CLOSED
        return chr(key & 0xFF) if key >= 0 else ""

    def close(self) -> None:
        """Closes it."""
        cv2.destroyAllWindows()


def why_no_window() -> str:
    """Why OpenCV can open no window here; "" if it can.

    It is tried in another process, since OpenCV ends the process where its attempt fails.
    """
    found = re.search(r"^ *GUI: *(\w+)", cv2.getBuildInformation(), re.M)
    if found is not None and found[1] == "NONE":
        return "this build of OpenCV has no windows (opencv-python-headless; opencv-python has)"
    if sys.platform == "linux" and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
        return "there is no display: DISPLAY is not set"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _TRIAL], capture_output=True, text=True, timeout=_TRIAL_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"OpenCV has opened none in {_TRIAL_SECONDS} seconds"
    if tried.returncode == 0:
        return ""
    lines = [line for line in tried.stderr.splitlines() if line.strip()]
    return lines[0] if lines else f"OpenCV ends with {tried.returncode}"
