"""``python -m multiway_lm`` is ``multiway-lm``."""

from multiway_lm.cli import main

if __name__ == "__main__":
    main()
