"""``python -m multiway_grounding`` is ``multiway-grounding``."""

from multiway_grounding.cli import main

if __name__ == "__main__":
    main()
