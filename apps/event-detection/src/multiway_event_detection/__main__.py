"""``python -m multiway_event_detection`` is ``multiway-event-detection``."""

from multiway_event_detection.app import APP

if __name__ == "__main__":
    APP.main()
