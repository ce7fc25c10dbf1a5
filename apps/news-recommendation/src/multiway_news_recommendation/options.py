"""Names that the command line and the commands share; nothing here takes time to import."""

from __future__ import annotations

from typing import Literal

PROGRAM = "multiway-news-recommendation"
BUNDLED_MODEL = "bundled:news-portal"
SIMULATED_NOTE = "a simulated portal: its articles, readers and clicks are made up"

Split = Literal["train", "dev", "test"]
LogFormat = Literal["auto", "csv", "parquet", "adressa", "eb-nerd", "msweb", "movielens"]
TextFeatures = Literal["tfidf", "minilm"]
