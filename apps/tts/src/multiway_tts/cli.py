"""The command line ``multiway-tts``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from multiway_core.app import CommandLine

from multiway_tts.app import APP
from multiway_tts.commands.evaluate import evaluate
from multiway_tts.commands.files import voices, watermark
from multiway_tts.commands.speak import speak
from multiway_tts.commands.train import data, train

cli = CommandLine(APP)
cli.command()(speak)
cli.add_typer(voices, name="voices")
cli.add_typer(watermark, name="watermark")
for command in (evaluate, train):
    cli.command()(command)
cli.add_typer(data, name="data")
cli.add_demo()
cli.add_serve()
