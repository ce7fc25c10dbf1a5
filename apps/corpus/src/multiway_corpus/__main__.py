"""``python -m multiway_corpus`` is ``multiway-corpus``."""

from multiway_corpus.app import APP

if __name__ == "__main__":
    APP.main()
