"""``python -m multiway_lm`` is ``multiway-lm``."""

from multiway_lm.app import APP

if __name__ == "__main__":
    APP.main()
