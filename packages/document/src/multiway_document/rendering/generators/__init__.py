"""Generated text of offices and shops: what running text lacks (figures, prices, codes, addresses, table cells).

Every maker is a function of a generator and of words to fill in: the same seed gives the same text.
"""

from multiway_document.rendering.generators.choice import Rng, Words
from multiway_document.rendering.generators.figures import date, number, part_number, phone, price, time
from multiway_document.rendering.generators.formulas import formula
from multiway_document.rendering.generators.machine_text import address, code
from multiway_document.rendering.generators.mixture import MAKERS, line
from multiway_document.rendering.generators.office import (
    cell_row,
    form_line,
    list_item,
    person,
    postal_address,
    receipt_line,
)

__all__ = [
    "MAKERS",
    "Rng",
    "Words",
    "address",
    "cell_row",
    "code",
    "date",
    "form_line",
    "formula",
    "line",
    "list_item",
    "number",
    "part_number",
    "person",
    "phone",
    "postal_address",
    "price",
    "receipt_line",
    "time",
]
