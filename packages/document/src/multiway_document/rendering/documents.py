"""Random blocks for synthetic pages: headings, paragraphs, lists, tables, letters' and receipts' parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiway_document.rendering import generators
from multiway_document.rendering.markdown_tree import (
    Block,
    CodeBlock,
    Heading,
    HorizontalRule,
    ListBlock,
    ListItem,
    Paragraph,
    Quote,
    Style,
    Table,
    TextLines,
    Word,
    plain,
    words,
)
from multiway_document.rendering.text import TextSource

Rng = np.random.Generator


@dataclass(frozen=True)
class Writer:
    """Draws random blocks. ``styles`` are those that the page's fonts can show, so no label names an unseen
    one.
    """

    texts: TextSource
    styles: tuple[Style, ...] = ("bold", "italic", "bold_italic", "code")

    def prose(self, rng: Rng, low: int, high: int) -> str:
        """Plain running text of ``low`` to ``high`` characters."""
        for _ in range(8):
            text = plain(self.texts.passage(rng, int(rng.integers(low, high + 1))))
            if len(text) >= low // 2 and any(map(str.isalpha, text)):
                return text[0].upper() + text[1:]
        return plain(self.texts.word_salad(rng, high)) or "Text"

    def styled(self, rng: Rng, text: str, share: float = 0.5) -> list[Word]:
        """The words of ``text``; with probability ``share`` one to three short runs of them stand out."""
        result = words(text)
        if self.styles and len(result) > 3 and rng.random() < share:
            for _ in range(int(rng.integers(1, 4))):
                start = int(rng.integers(len(result)))
                style = self.styles[int(rng.integers(len(self.styles)))]
                for i in range(start, min(len(result), start + int(rng.integers(1, 5)))):
                    result[i] = (result[i][0], style)
        return result

    def heading(self, rng: Rng, level: int) -> Heading:
        text = self.prose(rng, 6, 45 if level == 1 else 55).rstrip(".,;:-–( ")
        number = (
            f"{int(rng.integers(1, 9))}.{int(rng.integers(1, 9))} "
            if level > 1 and rng.random() < 0.25
            else ""
        )
        return Heading(level, words(number + (text or "Notes")))

    def paragraph(self, rng: Rng, low: int = 80, high: int = 600) -> Paragraph:
        text = self.prose(rng, low, high)
        if rng.random() < 0.35:
            pieces = text.split()
            at = int(rng.integers(len(pieces) + 1))
            pieces.insert(at, plain(generators.line(rng, int(rng.integers(6, 40)), self.texts.words)))
            text = " ".join(" ".join(pieces).split())
        return Paragraph(self.styled(rng, text if text.endswith((".", "!", "?", ":")) else text + "."))

    def list_block(self, rng: Rng, *, depth: int = 0) -> ListBlock:
        ordered = bool(rng.random() < 0.4)
        marker = str(rng.choice([".", ")"] if ordered else ["•", "•", "-", "–", "·"]))
        block = ListBlock(ordered, marker)
        long = rng.random() < 0.3
        for _ in range(int(rng.integers(2, 7 - 2 * depth))):
            item = ListItem(self.styled(rng, self.prose(rng, 8, 160 if long else 50), 0.2))
            if depth == 0 and rng.random() < 0.18:
                item.children = self.list_block(rng, depth=1)
            block.items.append(item)
        return block

    def quote(self, rng: Rng) -> Quote:
        return Quote(words(self.prose(rng, 60, 250)))

    def code_block(self, rng: Rng) -> CodeBlock:
        rows: list[str] = []
        for _ in range(int(rng.integers(2, 9))):
            indent = "" if not rows else "    " * int(rng.integers(0, 2))
            rows.append(indent + generators.code(rng, self.texts.words).replace("`", "'")[:60])
        return CodeBlock(rows)

    def table(self, rng: Rng) -> Table:
        columns, rows = int(rng.integers(2, 6)), int(rng.integers(2, 10))
        makers = [
            generators.number, generators.price, generators.date, generators.part_number, generators.person,
            generators.time, lambda r, w: plain(self.texts.word_salad(r, int(r.integers(4, 18)))),
        ]  # fmt: skip
        chosen = [int(rng.integers(len(makers))) if c else 6 for c in range(columns)]
        body = [
            [plain(makers[kind](rng, self.texts.words))[:22].strip() or "0" for kind in chosen]
            for _ in range(rows)
        ]
        header = [
            plain(self.texts.word_salad(rng, int(rng.integers(4, 14)))).title() or "Item" for _ in chosen
        ]
        borders = ("none", "rows", "all")[int(rng.integers(3))]
        right = frozenset(c for c, kind in enumerate(chosen) if kind in (0, 1) and rng.random() < 0.7)
        return Table([header, *body], right, borders)  # type: ignore[arg-type]  # a literal drawn from its values

    def body_block(self, rng: Rng, *, rich: bool) -> Block:
        """A block other than a heading; ``rich`` pages hold more tables, lists and code."""
        odds = [0.42, 0.18, 0.06, 0.09, 0.20, 0.05] if rich else [0.78, 0.10, 0.04, 0.03, 0.03, 0.02]
        match int(rng.choice(6, p=odds)):
            case 0:
                return self.paragraph(rng)
            case 1:
                return self.list_block(rng)
            case 2:
                return self.quote(rng)
            case 3:
                return self.code_block(rng)
            case 4:
                return self.table(rng)
            case _:
                return HorizontalRule()

    def lines(self, rng: Rng, count: int, maker: object = None) -> list[tuple[str, ...]]:
        """``count`` short generated lines (addresses and the like)."""
        makers = (generators.postal_address, generators.phone, generators.form_line, generators.person)
        picks = rng.integers(len(makers), size=count)
        return [(plain(makers[int(i)](rng, self.texts.words)) or "1",) for i in picks]

    def letter(self, rng: Rng) -> list[Block]:
        """The blocks of a letter."""
        words_ = self.texts.words
        person = plain(generators.person(rng, words_))
        sender = [(plain(generators.person(rng, words_)),), (plain(generators.postal_address(rng, words_)),)]
        blocks: list[Block] = [
            TextLines(
                [*sender, *self.lines(rng, int(rng.integers(0, 3)))],
                "right" if rng.random() < 0.5 else "left",
            ),
            TextLines([(generators.date(rng, words_),)], "right" if rng.random() < 0.5 else "left"),
            TextLines([(person,), (plain(generators.postal_address(rng, words_)),)]),
        ]
        if rng.random() < 0.5:
            bold: Style = "bold" if "bold" in self.styles else "regular"
            blocks.append(Paragraph(words(self.prose(rng, 10, 50), bold)))
        blocks.append(Paragraph(words(f"Dear {person},")))
        blocks += [self.paragraph(rng, 150, 700) for _ in range(int(rng.integers(1, 5)))]
        closing = str(rng.choice(["Yours sincerely,", "Kind regards,", "Best wishes,", "Yours faithfully,"]))
        blocks.append(TextLines([(closing,), (plain(generators.person(rng, words_)),)]))
        return blocks

    def receipt(self, rng: Rng) -> list[Block]:
        """The blocks of a shop's receipt."""
        w = self.texts.words
        upper = rng.random() < 0.6

        def case(text: str) -> str:
            text = plain(text)
            return text.upper() if upper else text

        kind = rng.choice(["Sdn Bhd", "Ltd.", "Store", "Restaurant", "Mart"])
        shop = case(f"{self.texts.word_salad(rng, int(rng.integers(5, 20)))} {kind}")
        blocks: list[Block] = [
            TextLines([(shop,)], "center", "bold" if "bold" in self.styles else "regular"),
            TextLines([(case(row[0]),) for row in self.lines(rng, int(rng.integers(1, 5)))], "center"),
        ]
        if rng.random() < 0.5:
            title = case(str(rng.choice(["Tax Invoice", "Receipt", "Cash Bill", "Invoice"])))
            blocks.append(TextLines([(title,)], "center"))
        details: list[tuple[str, ...]] = [
            (case(generators.form_line(rng, w)),) for _ in range(int(rng.integers(1, 5)))
        ]
        blocks += [TextLines(details), HorizontalRule()]
        items: list[tuple[str, ...]] = []
        total = 0.0
        for _ in range(int(rng.integers(1, 12))):
            value, quantity = round(10 ** rng.uniform(0, 2.3), 2), int(rng.integers(1, 6))
            name = case(self.texts.word_salad(rng, int(rng.integers(6, 26))))
            total += value * quantity
            if rng.random() < 0.4:
                items.append((name,))
                items.append((f"{quantity} x {value:.2f}", f"{value * quantity:.2f}"))
            else:
                items.append((f"{quantity} {name}", f"{value * quantity:.2f}"))
        currency = str(rng.choice(["RM ", "$", "", "€", "£", "RM"]))
        sums: list[tuple[str, ...]] = [
            (case("Total"), f"{currency}{total:,.2f}"),
            (case("Cash"), f"{currency}{np.ceil(total / 10) * 10:,.2f}"),
        ]
        if rng.random() < 0.5:
            sums.insert(0, (case(f"GST {int(rng.integers(1, 20))}%"), f"{total * 0.06:,.2f}"))
        if rng.random() < 0.6:
            sums.append((case("Change"), f"{currency}{np.ceil(total / 10) * 10 - total:,.2f}"))
        blocks += [TextLines(items, "spread"), HorizontalRule(), TextLines(sums, "spread")]
        if rng.random() < 0.8:
            thanks: list[tuple[str, ...]] = [(case("Thank you, please come again!"),)]
            if rng.random() < 0.5:
                thanks.append((plain(generators.address(rng, w)),))
            blocks.append(TextLines(thanks, "center"))
        return blocks
