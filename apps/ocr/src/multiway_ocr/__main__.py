"""``python -m multiway_ocr`` is ``multiway-ocr``."""

from multiway_ocr.app import APP

if __name__ == "__main__":
    APP.main()
