"""xTune (arXiv 2106.08226): fine-tuning for other languages by consistency with augmented examples."""
