"""``python -m multiway_event_detection`` is ``multiway-event-detection``."""

from multiway_event_detection.cli import main

if __name__ == "__main__":
    main()
