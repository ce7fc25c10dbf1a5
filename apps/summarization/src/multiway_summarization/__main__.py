"""``python -m multiway_summarization`` is ``multiway-summarization``."""

from multiway_summarization.app import APP

if __name__ == "__main__":
    APP.main()
