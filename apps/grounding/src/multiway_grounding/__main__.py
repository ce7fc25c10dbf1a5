"""``python -m multiway_grounding`` is ``multiway-grounding``."""

from multiway_grounding.app import APP

if __name__ == "__main__":
    APP.main()
