"""The presets of ``train``: the text-to-speech model, and the codec on whose latents it is trained."""

from multiway_speech.speech_tokenizer import recipe as codec
from multiway_speech.vibevoice import recipe as vibevoice

RECIPES = {**vibevoice.RECIPES, **{f"codec-{name}": preset for name, preset in codec.RECIPES.items()}}
