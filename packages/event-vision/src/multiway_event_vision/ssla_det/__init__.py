"""SSLA-Det: object detection on events by spatially sparse linear attention. See README.md in this folder."""
