"""Math and code on their way through a page, and the cues by which pages of a domain are known."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_text.redstone.domains import (
    CodeFilter,
    MathFilter,
    QuestionFilter,
    has_open_questions,
    is_multiple_choice,
    math_commands,
)
from multiway_text.redstone.markup import (
    CODE_PATTERN,
    MATH_PATTERN,
    is_latex,
    markup_text,
    without_line_numbers,
)
from multiway_text.redstone.record import Record

NOTE = r'<annotation encoding="application/x-tex">E = mc^2 \alpha</annotation>'
FORMULAS = {
    "KaTeX": (
        f'<span class="katex"><span class="katex-mathml"><math><semantics><mi>E</mi>{NOTE}</semantics></math></span>'
        '<span class="katex-html" aria-hidden="true">E=mc2α</span></span>',
        r"$E = mc^2 \alpha$",
    ),
    "MathJax": (r'<script type="math/tex; mode=display">\int_0^1 x\,dx</script>', r"$$\int_0^1 x\,dx$$"),
    "MathML": (
        "<math display='block'><mfrac><mi>a</mi><msqrt><mi>b</mi></msqrt></mfrac></math>",
        r"$$\frac{a}{\sqrt{b}}$$",
    ),
    "MathML in a script": (
        '<script type="math/mml"><math><msup><mi>x</mi><mn>2</mn></msup></math></script>',
        "$x^{2}$",
    ),
    "Wikipedia": (
        f'<span class="mwe"><span style="display: none;"><math alttext="x"><semantics>{NOTE}</semantics></math></span>'
        '<img class="mwe-math-fallback-image-inline" aria-hidden="true" alt="no"></span>',
        r"$E = mc^2 \alpha$",
    ),
    "picture": (r'<img class="tex" alt="\sum_i x_i">', r"$\sum_i x_i$"),
    "codecogs": (r'<img src="http://latex.codecogs.com/gif.latex?%5Cfrac%7Ba%7D%7Bb%7D">', r"$\frac{a}{b}$"),
    "span": ('<span class="math-formula">x^2</span>', "$x^2$"),
    "dollars": (r"$$\frac{1}{2}$$", r"$$\frac{1}{2}$$"),
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_formulas_survive(kind):
    markup, expected = FORMULAS[kind]
    text = markup_text(f"<html><body><p>Before {markup} behind.</p></body></html>")
    assert text == f"Before {expected} behind."
    assert kind == "span" or MATH_PATTERN.search(markup.encode()) or kind == "dollars"


def test_a_formula_that_does_not_parse_is_left_out():
    assert not is_latex(r"\frac{a")
    text = markup_text(r'<p>a <script type="math/tex">\frac{a</script> b</p><p>c $x$</p>')
    assert text == "a b\n\nc $x$"


def test_the_same_formula_in_plain_characters_goes():
    markup = r'<span class="math-formula">x\leq y</span>'
    assert markup_text(f"<p>so {markup}x≤y holds</p>") == r"so $x\leq y$ holds"
    assert markup_text(f"<p>so {markup}x≤yz holds</p>") == r"so $x\leq y$x≤yz holds"


CODE = "def f(x):\n    if x < 2:\n\n        return '`'\n\tprint(x)"


@pytest.mark.parametrize(
    ("markup", "language"),
    [
        (
            '<div class="highlight-python3 notranslate"><div class="highlight"><pre>{}</pre></div></div>',
            "python3",
        ),
        ('<pre><code class="language-rust">{}</code></pre>', "rust"),
        ('<pre class="brush: js">{}</pre>', "js"),
        ('<pre class="sourceCode haskell"><code>{}</code></pre>', "haskell"),
        ("<table><tbody><tr><td><pre><code>{}</code></pre></td></tr></tbody></table>", ""),
    ],
)
def test_code_survives_character_by_character(markup, language):
    page = f"<p>Look:</p>{markup.format(CODE.replace('<', '&lt;'))}<p>So.</p>"
    text = markup_text(page)
    assert text.split("\n\n", 1)[0] == "Look:"
    assert f"```{language}\n{CODE}\n```" in text
    assert text.endswith("So.")
    assert CODE_PATTERN.search(page.encode())


def test_words_in_a_pre_are_no_code():
    assert markup_text("<pre>roses are red\nviolets are blue</pre>") == "roses are red\nviolets are blue"
    assert "````\nx = 1  # ```\n````" in markup_text("<pre>x = 1  # ```</pre>")


def test_line_numbers_go_when_they_count_eight_lines():
    code = [f"x{i} = {i}" for i in range(1, 12)]
    assert without_line_numbers("\n".join(f"{i:2} {line}" for i, line in enumerate(code, 5))) == "\n".join(
        code
    )
    gutter = "\n".join(str(i) for i in range(1, 12))
    assert without_line_numbers(f"{gutter}\n" + "\n".join(code)) == "\n".join(code)
    few = "\n".join(f"{i} x" for i in range(1, 8))
    assert without_line_numbers(few) == few


PIECES = [
    "<pre>",
    "</pre>",
    "<math>",
    "</math>",
    "<mi>x",
    "<script type='math/tex'>",
    "x=1;",
    "</script>",
    "<p>",
]
PIECES += ["<span class='tex'>", "<img class='tex' alt='$'>", "\ue0000\ue001", "\\", "<math>&#0;"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14))
def test_any_markup_is_read(parts):
    text = markup_text("<html><body>x" + "".join(parts) + "</body></html>")
    assert "\ue000" not in text
    assert "\ue001" not in text


def record(text, uri="http://e.org/"):
    return Record("1", uri, text=text)


def test_math():
    five = r"$\alpha + \beta = \frac{1}{2} \times \sqrt{x} \leq 1$"
    assert math_commands(five) == {"alpha", "beta", "frac", "times", "sqrt", "leq"}
    assert math_commands(r"\ALPHA. \usr \text{x} \alphabet \in") == {
        "alpha"
    }  # a command ends before another sign
    assert not MathFilter()(record(five)).drop_reason
    assert MathFilter()(record("plain words")).drop_reason == "math: no LaTeX command"
    assert MathFilter()(record(r"C:\temp and \usr ")).drop_reason == "math: no LaTeX command"
    assert MathFilter()(record(r"as \alpha says")).drop_reason == "math: one command and no symbol"
    few = record(r"$\alpha = \beta $")
    assert MathFilter()(few).drop_reason == "math: fewer than 5 commands"
    assert not MathFilter(lambda text: 0.9)(few).drop_reason
    assert MathFilter(lambda text: 0.2)(few).meta["classifier"] == 0.2


def test_code():
    assert CodeFilter()(record("a\n```c\nint x;\n```\nb")).meta["code_blocks"] == 1
    assert CodeFilter()(record("no code")).drop_reason == "code: no block of code"
    assert (
        CodeFilter()(record("```\nx\n```", "http://e.org/blame.php?f=1")).drop_reason
        == "code: a page of changes"
    )


def test_questions():
    assert has_open_questions("Say when. Question: it is so? Answer: it is. And an explanation: because.")
    assert not has_open_questions("Say when. Question: it is so? Answer: it is.")  # one cue of an answer
    choice = "A choice question: which? a. one b. two c. three d. four"
    assert is_multiple_choice(choice)
    assert not is_multiple_choice(choice.replace("d. four", ""))
    assert not is_multiple_choice(choice.replace("choice", ""))
    assert QuestionFilter()(record(choice)).meta["question"] == "choice"
    assert QuestionFilter()(record("nothing")).drop_reason == "question: no cues of questions and answers"
    assert QuestionFilter(lambda text: 0.1)(record(choice)).drop_reason == "question: the classifier's no"
