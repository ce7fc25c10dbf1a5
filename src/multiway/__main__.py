"""``python -m multiway`` is ``multiway``."""

from multiway.cli import main

if __name__ == "__main__":
    main()
