"""Verbalization of numbers, dates, money, units, addresses and abbreviations.

All patterns have bounded repetitions and begin where a run begins, so that time grows with the text's length and no
faster. Letters that are said by their names stand by themselves in upper case.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from multiway_speech.pronunciation.numbers import cardinal, digits, fraction, number, ordinal, plural, year

_NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,6}|\d{1,40})(?:\.\d{1,40})?"
_LARGE = "hundred|thousand|million|billion|trillion"
_SHORT_LARGE = {
    "k": "thousand",
    "m": "million",
    "mn": "million",
    "bn": "billion",
    "b": "billion",
    "tn": "trillion",
}
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_MONTH = (
    r"(?P<month>(?:January|February|March|April|May|June|July|August|September|October|November|December)\b|"
    r"(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"
)
_CURRENCIES = {
    "$": ("dollar", "cent"),
    "€": ("euro", "cent"),
    "£": ("pound", "penny"),
    "¥": ("yen", "sen"),
    "₹": ("rupee", "paisa"),
}
_NO_PLURAL = ("yen", "sen", "paisa")
_UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "kg": "kilogram", "g": "gram",
    "mg": "milligram", "lb": "pound", "lbs": "pound", "oz": "ounce", "ft": "foot", "mi": "mile", "yd": "yard",
    "mph": "mile per hour", "km/h": "kilometer per hour", "kph": "kilometer per hour", "m/s": "meter per second",
    "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "kB": "kilobyte", "KB": "kilobyte",
    "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "ms": "millisecond", "s": "second", "sec": "second",
    "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "W": "watt", "kW": "kilowatt",
    "MW": "megawatt", "kWh": "kilowatt hour", "V": "volt", "ml": "milliliter", "l": "liter", "L": "liter",
    "cc": "cubic centimeter", "px": "pixel", "dB": "decibel", "ha": "hectare",
}  # fmt: skip
_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_TITLES = {
    "Mr": "mister", "Mrs": "missus", "Ms": "ms", "Messrs": "messers", "Prof": "professor", "Gen": "general",
    "Col": "colonel", "Maj": "major", "Sgt": "sergeant", "Lt": "lieutenant", "Capt": "captain", "Cmdr": "commander",
    "Gov": "governor", "Sen": "senator", "Rep": "representative", "Rev": "reverend", "Hon": "honorable",
    "Pres": "president", "Mt": "mount", "Ft": "fort", "Fr": "father", "Adm": "admiral",
}  # fmt: skip
_ABBREVIATIONS = {
    "Jr": "junior", "Sr": "senior", "vs": "versus", "etc": "et cetera", "Dept": "department", "Univ": "university",
    "Assn": "association", "Bros": "brothers", "Inc": "incorporated", "Ltd": "limited", "Corp": "corporation",
    "Co": "company", "Ave": "avenue", "Blvd": "boulevard", "Rd": "road", "approx": "approximately", "Fig": "figure",
    "Vol": "volume", "Jan": "january", "Feb": "february", "Mar": "march", "Apr": "april", "Jun": "june",
    "Jul": "july", "Aug": "august", "Sep": "september", "Sept": "september", "Oct": "october", "Nov": "november",
    "Dec": "december", "ca": "circa", "al": "al", "ed": "edition", "Esq": "esquire", "Mon": "monday",
    "Tue": "tuesday", "Tues": "tuesday", "Wed": "wednesday", "Thu": "thursday", "Thurs": "thursday", "Fri": "friday",
}  # fmt: skip
"""Only with their dot."""
_SAINTS = (
    "Louis|Paul|John|Petersburg|Peter|James|Mary|George|Patrick|Andrew|Francis|Thomas|Joseph|Michael|Helens"
)
_COUNTED = (
    "Chapter|Part|Volume|Act|Scene|War|Section|Book|Phase|Type|Class|Article|Appendix|Level|Grade|Title|Bowl"
)
_SYMBOLS_IN_ADDRESS = {".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", ":": "colon",
                       "#": "hash", "?": "question mark", "=": "equals", "&": "and", "%": "percent",
                       "+": "plus"}  # fmt: skip

Change = Callable[[re.Match[str]], str]


def expand(text: str) -> str:
    """A folded text (``normalize.fold``) in words and marks only."""
    for pattern, change in _CHANGES:
        text = pattern.sub(change, text)
    return text


def _address(match: re.Match[str]) -> str:
    text = re.sub(r"^https?://", "", match[0], flags=re.I)
    body = text.rstrip(".,;:!?)]'\"/")
    said = []
    for part in re.findall(r"[A-Za-z']+|\d{1,40}|[^A-Za-z\d\s]", body):
        if part[0].isdigit():
            said.append(digits(part) if len(part) > 4 else cardinal(part))
        elif part.lower() in ("www", "uk", "io", "tv", "de", "fr", "eu", "html", "php", "pdf"):
            said.append(" ".join(part.upper()))
        else:
            word = part.lower() if len(part) > 1 else part.upper()
            said.append(_SYMBOLS_IN_ADDRESS.get(part, word if part[0].isalpha() else ""))
    return f" {' '.join(said)} {text[len(body) :].replace('/', '')} "


def _hour_and_minute(match: re.Match[str]) -> str:
    hour, minute, half = int(match["hour"]), match["minute"], (match["half"] or "").replace(".", "").upper()
    if not minute:
        said = ""
    elif minute == "00":
        said = "" if half else "o'clock" if 0 < hour <= 12 else "hundred"
    else:
        said = f"oh {cardinal(minute[1])}" if minute[0] == "0" else cardinal(minute)
    return f" {cardinal(str(hour))} {said} {' '.join(half)} {_end(match)}"


def _end(match: re.Match[str]) -> str:
    """A full stop if an abbreviation that took its dot ends the sentence."""
    behind = match.string[match.end() : match.end() + 3]
    return ". " if match[0].endswith(".") and re.match(r" {1,2}[A-Z]|$", behind) else " "


def _date(match: re.Match[str]) -> str:
    groups = match.groupdict()
    month = groups["month"]
    name = (
        _MONTHS[int(month) - 1]
        if month.isdigit()
        else next(m for m in _MONTHS if m.startswith(month[:3].lower()))
    )
    said = f" {name} {ordinal(int(groups['day']))} "
    return said + (f", {_year_said(groups['year'])} " if groups.get("year") else "")


def _year_said(text: str) -> str:
    return (
        year(int(text)) if len(text) == 4 else f"oh {cardinal(text[1])}" if text[0] == "0" else cardinal(text)
    )


def _day_first(match: re.Match[str]) -> str:
    article = (
        "" if match.string[max(0, match.start() - 4) : match.start()].lower().endswith("the ") else "the "
    )
    name = next(m for m in _MONTHS if m.startswith(match["month"][:3].lower()))
    said = f" {article}{ordinal(int(match['day']))} of {name} "
    return said + (f", {year(int(match['year']))} " if match["year"] else "")


def _decade(match: re.Match[str]) -> str:
    century = f"{cardinal(match['century'])} " if match["century"] else ""
    if match["ten"] == "00":
        return f" {plural(cardinal(match['century'] + '00') if match['century'] == '20' else century + 'hundred')} "
    return f" {century}{plural(cardinal(match['ten']))} "


def _coins(name: str, amount: str) -> str:
    """A currency's name behind an amount."""
    if amount == "1" or name in _NO_PLURAL:
        return name
    return "pence" if name == "penny" else name + "s"


def _power(match: re.Match[str]) -> str:
    """``10^6``, ``10^-3``, ``x^2``."""
    base, sign, exponent = match["base"], match["sign"], int(match["exponent"])
    said = number(base) if base[0].isdigit() else base.upper()
    if not sign and exponent in (2, 3):
        return f" {said} {'squared' if exponent == 2 else 'cubed'} "
    return f" {said} to the {'minus ' + cardinal(str(exponent)) if sign else ordinal(exponent)} "


def _scientific(match: re.Match[str]) -> str:
    """``1e-5``: a number times a power of ten."""
    exponent = cardinal(str(int(match["exponent"])))
    said = f"minus {exponent}" if match["sign"] == "-" else ordinal(int(match["exponent"]))
    return f" {number(match['amount'])} times ten to the {said} "


def _mixed(match: re.Match[str]) -> str:
    """``2 1/2``: a whole number and a part of one."""
    upper, lower = int(match[2]), int(match[3])
    part = "a half" if (upper, lower) == (1, 2) else fraction(upper, lower)
    return f" {cardinal(match[1])} and {part} "


def _letters_and_digits(match: re.Match[str]) -> str:
    """``CO2``, ``H1N1``, ``B6``: letters by name, digits as numbers."""
    parts = re.findall(r"[A-Z]|\d{1,4}", match[0])
    return f" {' '.join(cardinal(part) if part[0].isdigit() else part for part in parts)} "


def _money(match: re.Match[str]) -> str:
    unit, part = _CURRENCIES[match["sign"]]
    amount, large = match["amount"].replace(",", ""), match["large"]
    if large:
        return f" {number(amount)} {_SHORT_LARGE.get(large.lower(), large.lower())} {_coins(unit, amount + large)} "
    whole, _, cents = amount.partition(".")
    if len(cents) != 2:
        return f" {number(amount)} {_coins(unit, amount)} "
    said = [] if int(whole) == 0 and cents != "00" else [cardinal(whole), _coins(unit, whole)]
    if cents != "00":
        said += ["and"] if said else []
        said.append(cardinal(str(int(cents))))
        said.append(_coins(part, str(int(cents))))
    return f" {' '.join(said)} "


def _unit(match: re.Match[str]) -> str:
    name = _UNITS[match["unit"]]
    if match["amount"] != "1" and not name.endswith("hertz"):
        head, _, tail = name.partition(" per ")
        head = "feet" if head == "foot" else "inches" if head == "inch" else head + "s"
        name = f"{head} per {tail}" if tail else head
    power = {" squared": "square ", "2": "square ", " cubed": "cubic ", "3": "cubic "}.get(
        match["power"] or "", ""
    )
    return f"{match['amount']} {power}{name} "


def _grouped_digits(match: re.Match[str]) -> str:
    groups = re.findall(r"\d{1,20}", match[0])
    return f" {', '.join(digits(group) for group in groups)} "


def _ratio(match: re.Match[str]) -> str:
    upper, lower = int(match[1]), int(match[2])
    if upper < lower and 2 <= lower <= 100:
        return f" {fraction(upper, lower)} "
    return f" {cardinal(match[1])} {'' if match[0] == '24/7' else 'over'} {cardinal(match[2])} "


def _roman(match: re.Match[str]) -> str:
    values = {"I": 1, "V": 5, "X": 10}
    figures = [values[letter] for letter in match["roman"]]
    total = sum(-v if v < max(figures[i:]) else v for i, v in enumerate(figures))
    counted = re.fullmatch(_COUNTED, match["before"])
    return f"{match['before']} {cardinal(str(total)) if counted else 'the ' + ordinal(total)}"


def _plain_number(match: re.Match[str]) -> str:
    text = match[0]
    if len(text) == 4 and text.isdigit() and 1100 <= int(text) < 2100:
        return f" {year(int(text))} "
    return f" {number(text)} "


def _initials(match: re.Match[str]) -> str:
    return " ".join(match[0].replace(".", " ").upper().split()) + _end(match)


def _abbreviation(match: re.Match[str]) -> str:
    known = {**_TITLES, **_ABBREVIATIONS}
    word = match[1]
    said = known.get(word) or (known.get(word.lower()) if word[0].isupper() else None)
    if said is None:
        return match[0]
    return said + (". " if match.end() == len(match.string.rstrip()) and word not in _TITLES else " ")


def _saint_or_street(match: re.Match[str]) -> str:
    return f"{match[1]} street " if match[1] else "saint "


def _to(said: str) -> Change:
    return lambda match: match.expand(said)


_TIME_END = r"(?P<half>[AaPp]\.?[Mm]\b\.?)"
_RULES: tuple[tuple[str, Change], ...] = (
    # Addresses
    (r"(?i)(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}", _address),
    (r"(?i)(?<!\w)(?:https?://|www\.)[^\s<>\"]{1,300}", _address),
    (r"(?<![\w.@-])(?:[\w-]{2,63}\.){1,4}(?:com|org|net|edu|gov|io)\b(?:/[^\s<>\"]{0,300})?", _address),
    # Streets, before their numbers are read
    (rf"\bSt\.(?= (?:{_SAINTS})\b)", _to("saint")),
    (r"(?:\b([A-Z][a-z]{1,30}|\d{1,4}(?:st|nd|rd|th)) )?\bSt\.", _saint_or_street),
    (r"\b([A-Z][a-z]{1,30}) Dr\.(?! [A-Z])", _to(r"\1 drive")),
    (r"\bDr\.", _to("doctor")),
    # Times and dates
    (rf"(?<![\d:.])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?![\d:])(?: ?{_TIME_END})?", _hour_and_minute),
    (rf"(?<![\d:.$€£])(?P<hour>1[0-2]|0?\d)(?P<minute>)? ?{_TIME_END}", _hour_and_minute),
    (rf"\b{_MONTH} (?P<day>[0-3]?\d)(?:st|nd|rd|th)?\b(?![:.,]?\d)(?:,? (?P<year>[12]\d{{3}})\b)?", _date),
    (rf"(?<![\d.,])(?P<day>[0-3]?\d)(?:st|nd|rd|th)? (?:of )?{_MONTH}(?:,? (?P<year>[12]\d{{3}})\b)?", _day_first),
    (r"(?<![\d-])(?P<year>[12]\d{3})-(?P<month>0[1-9]|1[0-2])-(?P<day>0[1-9]|[12]\d|3[01])(?![\d-])", _date),
    (r"(?<![\d/])(?P<month>0?[1-9]|1[0-2])/(?P<day>0?[1-9]|[12]\d|3[01])/(?P<year>[12]\d{3}|\d\d)(?![\d/])", _date),
    (r"(?<![\d/])(?P<day>1[3-9]|2\d|3[01])/(?P<month>0?[1-9]|1[0-2])/(?P<year>[12]\d{3}|\d\d)(?![\d/])", _date),
    (r"(?<![\d.])(?P<day>0?[1-9]|[12]\d|3[01])\.(?P<month>0?[1-9]|1[0-2])\.(?P<year>[12]\d{3})(?![\d.]\d|\d)", _date),
    (r"(?<![\w.,$€£])'?(?P<century>1\d|20)?(?P<ten>\d0)'?s\b", _decade),
    # Money
    (rf"(?P<sign>[$€£¥₹]) ?(?P<amount>{_NUMBER})(?:[ -]?(?P<large>{_LARGE}|[kKmMbB]n?)\b)?", _money),
    (rf"(?<![\w.,])(?P<amount>{_NUMBER})(?: ?(?P<large>{_LARGE}))? ?(?P<sign>[€£$¥₹])", _money),
    # Telephone numbers and other groups of digits
    (r"(?<![\w.,])\+?(?:\d{1,3}[ .-])?\(?\d{3}\)?[ .-]{1,2}\d{3}[.-]\d{4}(?!\w)", _grouped_digits),
    (r"(?<![\w.,])\+\d{1,4}(?:[ .-]?\d{2,5}){2,5}(?!\w)", _grouped_digits),
    (r"(?<![\w.,-])\d{3}-\d{4}(?![\w-])", _grouped_digits),
    (r"(?<![\w.,-])\d{1,5}(?:-\d{1,6}){2,6}(?![\w-])", _grouped_digits),
    # Numbers with something beside them
    (r"(?<![\d.,])(\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:st|nd|rd|th|ST|ND|RD|TH)\b",
     lambda m: f" {ordinal(int(m[1].replace(',', '')))} "),
    (r"(?<![\d/.,])(\d{1,4}) (\d{1,2})/([2-9]|1\d)(?![\d/])", _mixed),
    (r"(?<![\d/.])(\d{1,4})/(\d{1,4})(?![\d/])", _ratio),
    (rf"(?<![\w.^])(?P<base>{_NUMBER}|[A-Za-z])\^(?P<sign>-)?(?P<exponent>\d{{1,3}})(?![\w^])", _power),
    (rf"(?<![\w.])(?P<amount>{_NUMBER})[eE](?P<sign>[-+]?)(?P<exponent>\d{{1,3}})(?![\w.]\w|\w)", _scientific),
    (r"(?<![\d:])(\d{1,2}):(\d)(?![\d:])", _to(r"\1 to \2")),
    (rf"(?P<amount>{_NUMBER})[ -]?(?P<unit>{_UNIT})(?P<power> (?:squared|cubed)|(?<=m)[23])?(?![\w'])", _unit),
    (r"degrees {1,3}C\b", _to("degrees celsius")),
    (r"degrees {1,3}F\b", _to("degrees fahrenheit")),
    (rf"({_NUMBER}) ?- ?(?={_NUMBER})", _to(r"\1 to ")),
    (rf"({_NUMBER}) ?[xX] ?(?=\d)", _to(r"\1 by ")),
    (r"(\d) ?\* ?(?=\d)", _to(r"\1 times ")),
    (r"(?<![\w)])-(?=\.?\d)", _to(" minus ")),
    (r"\b(?:No|no|Nos)\.(?= ?\d)", _to("number ")),
    (r"#(?=\d)", _to("number ")),
    (r"#(?=[A-Za-z])", _to("hashtag ")),
    # The separator of versions and of addresses is said in each place
    (r"(\d{1,40})\.(?=\d{1,40}\.\d)", lambda m: f" {cardinal(m[1])} point "),
    (r"(?<![\d.])\.(?=\d)", _to(" zero.")),
    (r"zero\.(\d{1,40})", lambda m: f"zero point {digits(m[1])} "),
    # Abbreviations
    (r"(?i)\be\.g\.,?", _to("for example,")),
    (r"(?i)\bi\.e\.,?", _to("that is,")),
    (r"\bPh\.D\.|\bPhD\b", lambda m: "P H D" + _end(m)),
    (r"(?<= )'?n'(?= )", _to("and")),
    (r"\b(?:[A-Za-z]\.){2,12}", _initials),
    (r"\b([A-Za-z]{2,6})\.", _abbreviation),
    (r"(?<![A-Za-z'])([A-HJ-Z])\.(?= {0,2}[A-Z][\w.])", _to(r"\1 ")),
    (r"\b(?P<before>[A-Z][a-z]{2,20}) (?P<roman>X{0,3}(?:IX|IV|VI{1,3}|I{2,3}))\b", _roman),
    (rf"\b(?P<before>{_COUNTED}) (?P<roman>[IVX])\b(?!')", _roman),
    (r"\bC\+\+", _to("C plus plus ")),
    (r"\b([CF])#", _to(r"\1 sharp ")),
    (r"\bw/(?=[ a-z])", _to("with ")),
    (r"(?<![\w/])([A-Za-z])/([A-Za-z])(?![\w/])", lambda m: f" {m[1].upper()} slash {m[2].upper()} "),
    (r"(?<=[A-Za-z])/(?=[A-Za-z])", _to(" ")),
    (r"(?<![\w-])[A-Z]{1,4}\d{1,4}(?:[A-Z]{1,3}\d{0,4}){0,3}(?![\w-])", _letters_and_digits),
    # What is left of numbers
    (_NUMBER, _plain_number),
)  # fmt: skip
_CHANGES = [(re.compile(pattern), change) for pattern, change in _RULES]
