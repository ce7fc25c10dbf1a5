"""Sentences that speech synthesizers are measured on: written for this, with what is said of each.

``HELD_OUT`` is fixed: no rule, dictionary, model or voice was chosen on it. ``DEV`` is what work on the front end may
look at. An item is (kind, text, what is said); of several readings the nearest one counts. Kinds: ``name`` (people,
places, firms), ``number`` (amounts, dates, units, symbols), ``letter`` (spelt letters), ``plain``.
"""

from __future__ import annotations

Item = tuple[str, str, tuple[str, ...]]


def _items(kind: str, rows: list[tuple[str, ...]]) -> list[Item]:
    """A row is a text, and readings of it if they are not the text itself."""
    return [(kind, row[0], row[1:] or row[:1]) for row in rows]


HELD_OUT: list[Item] = [
    *_items(
        "name",
        [
            ("Professor Johansson met Michelle Nguyen at the University of Edinburgh.",),
            ("The Kowalskis moved from Minneapolis to Albuquerque in the spring.",),
            ("Vladimir Nabokov and Gabriel Garcia Marquez never shared a publisher.",),
            ("Siobhan and Niamh grew up near Galway, not in Liverpool.",),
            ("Microsoft and Nvidia announced the partnership in Singapore.",),
            ("We flew with Lufthansa from Munich to Johannesburg.",),
            ("Beethoven, Tchaikovsky and Chopin are on the programme tonight.",),
            ("Mrs. Fitzgerald lives on Baker Street, next to Dr. Patel.",
             "Missus Fitzgerald lives on Baker Street, next to Doctor Patel."),
            ("Angela Merkel succeeded Gerhard Schroeder as chancellor.",),
            ("The recipe comes from Giovanni, a baker in Bologna.",),
            ("Hiroshi Tanaka designed the bridge between Osaka and Kobe.",),
            ("Last night Serena beat Petrova in straight sets.",),
            ("The Mississippi meets the Missouri a little north of Saint Louis.",),
            ("Isaac Asimov wrote about robots long before Boston Dynamics built them.",),
            ("Call Katherine, Jonathan or Christopher if the alarm goes off.",),
        ],
    ),
    *_items(
        "number",
        [
            ("The invoice of 14 March 2023 comes to $1,249.50.",
             "The invoice of the fourteenth of March, two thousand twenty three comes to one thousand two hundred "
             "forty nine dollars and fifty cents.",
             "The invoice of March fourteenth twenty twenty three comes to one thousand two hundred forty nine dollars "
             "and fifty cents."),
            ("At 7:45 p.m. it was -12 °C in Toronto.",
             "At seven forty five p m it was minus twelve degrees celsius in Toronto."),
            ("Add 1 1/2 cups of flour and 3/4 of a teaspoon of salt.",
             "Add one and a half cups of flour and three quarters of a teaspoon of salt.",
             "Add one and one half cups of flour and three fourths of a teaspoon of salt."),
            ("The probe travelled 4.2 million km in 36 hours.",
             "The probe travelled four point two million kilometers in thirty six hours."),
            ("Light moves at about 3 x 10^8 m/s.",
             "Light moves at about three times ten to the eighth meters per second.",
             "Light moves at about three times ten to the power of eight meters per second.",
             "Light moves at about three times ten to the eight meters per second."),
            ("Their error rate fell from 5.7% to 0.9% within 18 months.",
             "Their error rate fell from five point seven percent to zero point nine percent within eighteen months."),
            ("The ticket costs €85, the hotel £120 a night.",
             "The ticket costs eighty five euros, the hotel one hundred twenty pounds a night."),
            ("Room 307 is on the 3rd floor; please be there by 9:05.",
             "Room three oh seven is on the third floor; please be there by nine oh five.",
             "Room three hundred seven is on the third floor; please be there by nine oh five."),
            ("The contract was signed on 05.11.2021 in Vienna.",
             "The contract was signed on the fifth of November, twenty twenty one in Vienna.",
             "The contract was signed on November fifth two thousand twenty one in Vienna.",
             "The contract was signed on May eleventh twenty twenty one in Vienna."),
            ("A learning rate of 3e-4 was too high for this model.",
             "A learning rate of three times ten to the minus four was too high for this model.",
             "A learning rate of three e minus four was too high for this model.",
             "A learning rate of three e to the minus four was too high for this model."),
            ("In the 1990s a bus ride cost ¥160.",
             "In the nineteen nineties a bus ride cost one hundred sixty yen."),
            ("Chapter IV begins on page 112 and ends on page 1,048.",
             "Chapter four begins on page one hundred twelve and ends on page one thousand forty eight."),
            ("The tank holds 65 L, about 17 gallons.",
             "The tank holds sixty five liters, about seventeen gallons."),
            ("Please call 555-0142 between 8 and 10 a.m.",
             "Please call five five five oh one four two between eight and ten a m.",
             "Please call five five five zero one four two between eight and ten a m."),
            ("Only 1 in 250,000 tickets wins more than $10 million.",
             "Only one in two hundred fifty thousand tickets wins more than ten million dollars."),
            ("The screen is 27 inches wide, with 2560 x 1440 pixels.",
             "The screen is twenty seven inches wide, with twenty five sixty by fourteen forty pixels.",
             "The screen is twenty seven inches wide, with two thousand five hundred sixty by one thousand four "
             "hundred forty pixels."),
            ("World War II ended in 1945, the Cold War around 1990.",
             "World War two ended in nineteen forty five, the Cold War around nineteen ninety."),
            ("Version 2.0.13 fixes 42 bugs and weighs 1.8 GB.",
             "Version two point zero point thirteen fixes forty two bugs and weighs one point eight gigabytes."),
            ("He ran 100 m in 10.8 s.",
             "He ran one hundred meters in ten point eight seconds."),
            ("Water boils at 212 °F and freezes at 32 °F.",
             "Water boils at two hundred twelve degrees fahrenheit and freezes at thirty two degrees fahrenheit."),
        ],
    ),
    *_items(
        "letter",
        [
            ("The FBI and the CIA share a database in Washington, D.C.",
             "The F B I and the C I A share a database in Washington, D C."),
            ("Save the PDF on a USB stick and send me the URL.",
             "Save the P D F on a U S B stick and send me the U R L."),
            ("My HR manager moved from SAP to BMW.", "My H R manager moved from S A P to B M W."),
            ("The BBC reported that the EU and the UK reached a deal.",
             "The B B C reported that the E U and the U K reached a deal."),
            ("NASA runs its simulations on GPU clusters.", "NASA runs its simulations on G P U clusters."),
            ("Plants take in CO2 and water, H2O, and give off O2.",
             "Plants take in C O two and water, H two O, and give off O two."),
            ("He earned an MBA at MIT and a PhD at UCLA.",
             "He earned an M B A at M I T and a P H D at U C L A."),
            ("The API returns JSON, or XML for old clients.",
             "The A P I returns Jason, or X M L for old clients.",
             "The A P I returns J S O N, or X M L for old clients."),
            ("Our TV shows the NBA finals in HD.", "Our T V shows the N B A finals in H D."),
            ("The flight number is KL 1027, gate B6.",
             "The flight number is K L ten twenty seven, gate B six.",
             "The flight number is K L one thousand twenty seven, gate B six.",
             "The flight number is K L one zero two seven, gate B six."),
            ("A DVD player and/or a VCR is in the attic.",
             "A D V D player and or a V C R is in the attic.",
             "A D V D player and slash or a V C R is in the attic."),
            ("Write to info@example.org or visit www.example.org.",
             "Write to info at example dot org or visit W W W dot example dot org."),
        ],
    ),
    *_items(
        "plain",
        [
            ("The children waited by the window until the snow had stopped.",),
            ("Could you close the door, please? It is getting cold in here.",),
            ("I read the letter twice, and still I do not know what she means.",),
            ("After the storm the fishermen found their boats far up on the beach.",),
            ("She plays the violin better than anyone else in the orchestra.",),
            ("What a wonderful surprise to see you all together again!",),
            ("The old bridge was closed because its foundations had become weak.",),
            ("If the weather holds, we will climb the mountain on Sunday morning.",),
            ("He put the keys on the table and left without saying a word.",),
            ("Most of the furniture in this room was built by her grandfather.",),
            ("The museum is free for students, but the special exhibition is not.",),
            ("They argued about the budget all afternoon and agreed on nothing.",),
            ("A quiet voice is sometimes heard more clearly than a loud one.",),
        ],
    ),
]  # fmt: skip

DEV: list[Item] = [
    *_items(
        "number",
        [
            ("A mole has more than 10^6 atoms.", "A mole has more than ten to the sixth atoms."),
            ("The tolerance is 1e-5.", "The tolerance is one times ten to the minus five."),
            ("A bowl of rice costs ¥100.", "A bowl of rice costs one hundred yen."),
            ("It ends on 30.06.2024.", "It ends on June thirtieth twenty twenty four."),
            ("Wait 2 1/2 hours.", "Wait two and a half hours."),
        ],
    ),
    *_items(
        "letter",
        [
            ("He was the CEO of IBM.", "He was the C E O of I B M."),
            ("The air holds more CO2 now.", "The air holds more C O two now."),
            ("Choose a/b with care.", "Choose A slash B with care."),
        ],
    ),
    *_items(
        "name",
        [
            ("Catherine Zellweger and Rajesh Iyer live in Reykjavik.",),
            ("Guillermo del Toro was born in Guadalajara.",),
            ("Fjord, Krzysztof and Xiaoping are hard to read aloud.",),
        ],
    ),
    *_items("plain", [("The quick brown fox jumps over the lazy dog.",)]),
]  # fmt: skip
