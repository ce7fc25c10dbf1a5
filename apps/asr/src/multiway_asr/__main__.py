"""``python -m multiway_asr`` is ``multiway-asr``."""

from multiway_asr.cli import main

if __name__ == "__main__":
    main()
