"""Generated scenes: named cut-outs on backgrounds, photographs with boxes, and what can be said about them."""
