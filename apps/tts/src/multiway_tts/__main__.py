"""``python -m multiway_tts`` is ``multiway-tts``."""

from multiway_tts.cli import main

if __name__ == "__main__":
    main()
