"""The commands' options and what they call; nothing here takes time to import, so that ``--help`` answers at once."""
