"""The ``simulate`` command: a portal's log with its truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from multiway_core.errors import InputError

from multiway_news_recommendation.options import SIMULATED_NOTE


def simulate_portal(
    output: Path, *, readers: int | None, drift: float | None, headlines: Path | None, seed: int
) -> Iterator[str]:
    """Write train, dev and test as MIND folders and the truth beside them; yields lines about it.

    Raises:
        InputError: the folder holds something already.
        DataError: ``headlines`` cannot be read.
    """
    from multiway_recsys.simulator import (
        PortalConfig,
        generated_texts,
        real_headlines,
        simulate,
        write_portal,
    )

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"--output {output}: is there already; give a new folder")
    config = PortalConfig(seed=seed)
    config = replace(config, num_users=readers or config.num_users)
    config = replace(config, drift=config.drift if drift is None else drift)
    bank = generated_texts(seed=seed) if headlines is None else real_headlines(headlines, seed=seed)
    portal = simulate(config, bank)
    write_portal(output, portal)
    yield f"{SIMULATED_NOTE}; what really happened is in {output / 'truth'}"
    for split, behaviors in portal.splits.items():
        clicks = 0 if behaviors.labels is None else int(behaviors.labels.sum())
        yield f"{split}: {len(behaviors):,} impressions, {clicks:,} clicks, {len(portal.news) - 1:,} news"
