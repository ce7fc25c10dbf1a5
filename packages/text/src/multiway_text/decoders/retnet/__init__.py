"""RetNet (arXiv 2307.08621): retention in place of attention; every further token costs the same."""
