"""``python -m multiway_asr`` is ``multiway-asr``."""

from multiway_asr.app import APP

if __name__ == "__main__":
    APP.main()
