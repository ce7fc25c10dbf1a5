"""How detections and interpolated frames are judged."""
