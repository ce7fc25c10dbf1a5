"""Training text from web archives: command line and demo."""
