"""``python -m multiway_tts`` is ``multiway-tts``."""

from multiway_tts.app import APP

if __name__ == "__main__":
    APP.main()
