"""Find what words name in pictures, and put pictures into words: command, demo and evaluation."""
