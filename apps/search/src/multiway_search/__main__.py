"""``python -m multiway_search`` is ``multiway-search``."""

from multiway_search.app import APP

if __name__ == "__main__":
    APP.main()
