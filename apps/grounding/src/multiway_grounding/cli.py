"""The command line ``multiway-grounding``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from multiway_core.app import CommandLine

from multiway_grounding.app import APP
from multiway_grounding.commands.evaluate import evaluate
from multiway_grounding.commands.picture import ask, caption, classify, compare, describe, locate, prompt
from multiway_grounding.commands.results import batch, export
from multiway_grounding.commands.train import train

cli = CommandLine(APP)
for command in (caption, locate, describe, ask, classify, compare, prompt, batch, export, evaluate, train):
    cli.command()(command)
cli.add_demo()
cli.add_serve()
