"""The document reading app: ``multiway-ocr`` and its demo, on top of ``multiway_document``."""
