"""``python -m multiway_frame_interpolation`` is ``multiway-frame-interpolation``."""

from multiway_frame_interpolation.app import APP

if __name__ == "__main__":
    APP.main()
