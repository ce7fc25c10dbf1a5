"""Products of few rows with a large matrix; see :func:`multiway_blocks.linear.project`."""
