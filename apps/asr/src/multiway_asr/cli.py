"""The command line ``multiway-asr``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from multiway_core.app import CommandLine

from multiway_asr.app import APP
from multiway_asr.commands.evaluate import evaluate
from multiway_asr.commands.listen import listen
from multiway_asr.commands.train import data, train
from multiway_asr.commands.transcribe import transcribe

cli = CommandLine(APP)
for command in (transcribe, listen, evaluate, train):
    cli.command()(command)
cli.add_typer(data, name="data")
cli.add_demo()
cli.add_serve()
