"""TimeReplayer: frames between the frames of a video, from the events between them."""
