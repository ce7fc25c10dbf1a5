"""``python -m multiway_pathology`` is ``multiway-pathology``."""

from multiway_pathology.app import APP

if __name__ == "__main__":
    APP.main()
