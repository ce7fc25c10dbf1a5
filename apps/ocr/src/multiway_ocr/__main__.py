"""``python -m multiway_ocr`` is ``multiway-ocr``."""

from multiway_ocr.cli import main

if __name__ == "__main__":
    main()
