"""``python -m multiway_frame_interpolation`` is ``multiway-frame-interpolation``."""

from multiway_frame_interpolation.cli import main

if __name__ == "__main__":
    main()
