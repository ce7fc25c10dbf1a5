"""The commands that are more than a call, a file each."""
