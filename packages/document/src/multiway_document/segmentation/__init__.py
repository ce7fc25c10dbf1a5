"""Page preparation without a network: flatten and deskew a page, find its lines, cut them out.

>>> prepared = prepare(image)                  # (H, W) or (H, W, 3) uint8
>>> regions = find_lines(prepared)             # in reading order
>>> crops = [crop_line(prepared, region) for region in regions]   # (32, W) uint8 each
>>> boxes = [prepared.to_source(region.box) for region in regions]
"""

from multiway_document.segmentation.crop import crop_line
from multiway_document.segmentation.lines import LineRegion, find_lines
from multiway_document.segmentation.orientation import lies_sideways
from multiway_document.segmentation.preparation import PreparedPage, prepare

__all__ = ["LineRegion", "PreparedPage", "crop_line", "find_lines", "lies_sideways", "prepare"]
