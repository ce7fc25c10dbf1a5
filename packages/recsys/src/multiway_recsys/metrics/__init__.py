"""How good rankings are: as MIND's server counts, for whom they are good, and how varied they are."""
