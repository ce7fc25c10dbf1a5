"""The command line ``multiway-question-answering``. Torch and Gradio are not imported here: --help answers at once."""

from multiway_core.app import CommandLine

from multiway_question_answering.app import APP
from multiway_question_answering.commands.answer import answer
from multiway_question_answering.commands.train import train

cli = CommandLine(APP)
for command in (answer, train):
    cli.command()(command)
