"""``python -m multiway_encoder`` is ``multiway-encoder``."""

from multiway_encoder.app import APP

if __name__ == "__main__":
    APP.main()
