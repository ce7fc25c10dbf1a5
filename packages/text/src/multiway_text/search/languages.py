"""Words that carry grammar and no subject, in some languages: left out of BM25, and a sign of a query's language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

FUNCTION_WORDS = {
    "en": "a about after all am an and any are as at be been before but by can could did do does for from had "
    "has have he her him his how i if in into is it its me my no nor not of on or our out she should so "
    "some than that the their them then there these they this those to up us was we were what when where "
    "which who whom whose why will with would you your",
    "de": "aber als am an auch auf aus bei bin bis da das dass dein dem den der des die dies diese doch du ein "
    "eine einem einen einer er es für hat ich ihr ihre im in ist ja kann mein meine mich mir mit muss "
    "nach nicht noch nur oder sein seine sich sie sind so über um und uns unser unter vom von vor wann "
    "war warum was wenn wer werden wie wir wird wo zu zum zur",
    "fr": "à au aux avec c ce ces cette comment d dans de des du elle en est et être eu il ils j je l la le les "
    "leur lui ma mais me mes mon n ne nos notre nous on ou où par pas pour pourquoi qu quand que quel "
    "quelle qui s sa se ses si son sont sur ta te tes ton tu un une vos votre vous y",
    "es": "a al algo como con cómo cuál cuándo de del desde donde dónde el ella ellos en entre era es esta este "
    "esto ha hay la las le les lo los más me mi mis muy no nos o para pero por porque qué que quién se "
    "ser si sin sobre son su sus también te tu un una uno y ya yo",
    "it": "a ai al alla anche che chi ci come con cosa cui da dal dei del della delle di dove e è ed gli ha ho "
    "i il in io la le lei lo loro lui ma mi mia mio ne nel nella noi non o per perché più qual quale "
    "quando se si sono su sua suo sul tra tu un una uno",
    "pt": "a ao aos as à até com como da das de do dos e é ela ele em entre era eu foi há isso já lhe mais mas "
    "me meu minha muito na não nas nem no nos o onde os ou para pela pelo por porque qual quando que quem "
    "se sem ser seu são sua também te um uma você",
    "nl": "aan al als bij dan dat de deze die dit door een en er had heb heeft het hij hoe ik in is je kan maar "
    "me met mij mijn na naar niet nog nu of om onder ons ook op over te tot uit van veel voor waar waarom "
    "was wat wel wie wij wordt ze zich zijn zo",
    "da": "af alle at da de dem den der deres det din dig du efter eller en er et for fra ham han har hende hos "
    "hun hvad hvem hvor hvordan hvornår i ikke jeg kan man med men mig min når nogle og om op på så sig "
    "sin skal som til ud var vi vil",
    "sv": "alla att av blir de dem den det deras din du där efter eller en ett från för han har hon hur i inte "
    "jag kan man med men mig min mycket nu när och om på sig sin ska som så till ut vad var varför vem vi "
    "vid är",
    "pl": "a ale bo by być co czy dla do gdy gdzie go i ich ja jak jako jest jestem już kiedy kto która które "
    "który lub ma mi mnie może na nas nie o od on ona po pod przez przy są się ta tak tam te tego ten to "
    "tu tylko w we z za że",
    "ru": "а без бы был была были было быть в вам вас во вот все вы где да для до его ее если есть еще же за и "
    "из или им их к как кто когда ли мне мы на над не него нет но ну о об он она они от по под при с со "
    "так такой там то что чтобы эта этот я",
}
_WORDS = {language: frozenset(words.split()) for language, words in FUNCTION_WORDS.items()}
ALL = frozenset().union(*_WORDS.values())
SCRIPTS = {
    "Cyrillic": ("\u0400-\u04ff", "ru uk bg sr be mk kk"),
    "Greek": ("\u0370-\u03ff", "el"),
    "Hebrew": ("\u0590-\u05ff", "he yi"),
    "Arabic": ("\u0600-\u06ff", "ar fa ur ps"),
    "Devanagari": ("\u0900-\u097f", "hi mr ne"),
    "Thai": ("\u0e00-\u0e7f", "th"),
    "Hangul": ("\uac00-\ud7af", "ko"),
    "Kana": ("\u3040-\u30ff", "ja"),
    "Han": ("\u4e00-\u9fff", "zh ja"),
}
_WORD = re.compile(r"[^\W\d_]+")


def unknown_language(query: str, languages: Collection[str]) -> str | None:
    """What a query seems to be written in if a model of these languages does not know that; None: nothing to say."""
    letters = sum(character.isalpha() for character in query)
    for script, (characters, of) in SCRIPTS.items():
        if 2 * len(re.findall(f"[{characters}]", query)) > letters and not set(of.split()) & set(languages):
            return f"{script} script"
    words = _WORD.findall(query.casefold())
    counts = Counter({language: sum(word in own for word in words) for language, own in _WORDS.items()})
    known = max((counts[language] for language in languages), default=0)
    ((likely, most),) = counts.most_common(1)
    return f"the language {likely!r}" if most >= max(2, known + 2) else None
