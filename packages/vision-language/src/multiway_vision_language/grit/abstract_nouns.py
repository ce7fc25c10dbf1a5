"""Nouns that name nothing one could draw a box around, by lemma (arXiv 2306.14824, section 2, step 1).

The paper drops "certain abstract noun phrases", such as time, love and freedom, and gives no list; this one is ours,
by kinds. Words that also name things (light, glass, company as a crowd) are left in.
"""

from __future__ import annotations

_TIME = """
afternoon age beginning century childhood date dawn day decade dusk end era evening future history hour lifetime midday
midnight minute moment month morning night noon past period present season second spring summer time today tomorrow
tonight twilight week weekend winter year yesterday
"""
_FEELING_AND_STATE = """
anger anxiety boredom calm care comfort curiosity delight despair emotion energy enjoyment envy excitement fear feeling
friendship fun grief happiness hate hatred health hope hunger innocence joy laughter life loneliness love luck mercy
mood pain passion patience peace pleasure pride rest romance sadness satisfaction sense shame silence sleep solitude
sorrow stress surprise suspense thirst trust wonder worry
"""
_QUALITY = """
ability beauty bravery charm class clarity color colour contrast courage depth detail difference difficulty ease
elegance excellence freedom grace height honesty importance kindness knowledge length luxury magic mystery nature
power quality reality shape simplicity size skill speed strength style talent taste texture truth value variety
weakness wealth weight width wisdom
"""
_IDEA = """
advice art attention belief business case chance choice concept culture democracy dream education effect evidence
example experience fact faith fashion goal idea identity imagination information inspiration intention justice kind
language law lesson liberty logic luck meaning memory method mind option opinion order permission perspective plan
point politics possibility principle problem purpose question reason religion responsibility right rule science
secret solution sort spirit story success theory thing thought tradition type view way wish
"""
_EVENT_AND_ACTIVITY = """
action activity adventure attempt beginning break celebration change competition conversation development discussion
distance effort event exercise game growth help holiday journey matter motion movement occasion performance practice
preparation process progress research service situation sport step support trip try use vacation visit war work
"""
_AMOUNT_AND_PLACE_IN_SPACE = """
amount back background bit bottom center centre corner couple direction edge few foreground front half inside left lot
majority middle number outside pair part piece place position rest row series set side space surrounding top total
"""
_THE_PICTURE_ITSELF = """
angle artwork capture close closeup composition copy drawing illustration image photo photograph photography picture
portrait render rendering scene scenery shot sketch snapshot stock vector version wallpaper
"""

ABSTRACT_NOUNS = frozenset(
    " ".join(
        (
            _TIME,
            _FEELING_AND_STATE,
            _QUALITY,
            _IDEA,
            _EVENT_AND_ACTIVITY,
            _AMOUNT_AND_PLACE_IN_SPACE,
            _THE_PICTURE_ITSELF,
        )
    ).split()
)
