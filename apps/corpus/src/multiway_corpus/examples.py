"""Small pages for the demo, written for it: an article, a shop's page, formulas, code."""

_MENU = "<nav><a href='/'>Home</a> <a href='/news'>News</a> <a href='/login'>Sign in</a></nav>"
_ARTICLE = """<article><h1>The flood at the old mill</h1>
<p>Rain fell on the hills all night, and by morning the small river had left its bed. The miller opened both gates and
waited for the water to fall. His daughter carried sacks of flour to the upper floor, where they would stay dry until
the boat came from the town.</p>
<p>17 comments</p>
<p>At noon a neighbour came to ask whether anyone needed help. They drank tea, watched the water, and spoke of earlier
floods that nobody younger than sixty could have seen. When the sun came back the fields lay under a shining sheet, and
herons walked where the barley had been.</p>
<p>The council met in the school, because the town hall had a foot of mud on its floor and no light at all. It was
agreed to raise the road, to dredge the ditch behind the church, and to thank the fire brigade with a dinner in
the spring.</p>
</article>"""
_SHOP = "".join(
    f"<p>These boots are made to be warm and dry, and size {size} is in stock. Add it to your basket with the green "
    "button, pay by card, and have it sent to your door.</p><p>Read more...</p>"
    for size in range(36, 46)
)
_MATH = r"""<article><h1>Waves on a string</h1><p>A string under tension obeys
<math display="block"><mfrac><mrow><msup><mo>&#x2202;</mo><mn>2</mn></msup><mi>u</mi></mrow><mrow><mo>&#x2202;</mo>
<msup><mi>t</mi><mn>2</mn></msup></mrow></mfrac><mo>=</mo><msup><mi>c</mi><mn>2</mn></msup><mi>&#x2207;</mi><mi>u</mi></math>
so that a wave of frequency <script type="math/tex">\omega</script> has
<script type="math/tex">k = \frac{\omega}{c}, \lambda = \frac{2\pi}{k}</script>, and
<script type="math/tex">u(x, t) = \sin(k x - \omega t) + \alpha \cos(k x) \leq 1 + \alpha</script>.</p></article>"""
_CODE = """<article><h1>Counting words</h1><p>A dictionary holds the counts.</p><div class="highlight-python"><pre>
from collections import Counter

def count(text):
    return Counter(text.lower().split())
</pre></div><p>It reads a text once.</p></article>"""
EXAMPLES = {
    "An article": ("web", f"<html><body>{_MENU}{_ARTICLE}<footer>Copyright</footer></body></html>"),
    "A shop": ("web", f"<html><body>{_MENU}<article><h1>Boots</h1>{_SHOP}</article></body></html>"),
    "Formulas": ("math", f"<html><body>{_MENU}{_MATH}</body></html>"),
    "Code": ("code", f"<html><body>{_MENU}{_CODE}</body></html>"),
}
"""Name -> (recipe, HTML)."""
