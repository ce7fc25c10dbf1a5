"""The command line ``multiway-question-answering``. Torch and Gradio are not imported here: --help answers at once."""

from multiway_core.app import CommandLine

from multiway_question_answering.app import APP
from multiway_question_answering.commands.answer import answer
from multiway_question_answering.commands.evaluate import evaluate
from multiway_question_answering.commands.harvest import harvest
from multiway_question_answering.commands.train import train
from multiway_question_answering.commands.unanswerable import unanswerable

cli = CommandLine(APP)
for command in (answer, train, evaluate, harvest, unanswerable):
    cli.command()(command)
cli.add_demo()
cli.add_serve("Serve answers over HTTP; MULTIWAY_QUESTION_ANSWERING_IN names files or an index to be asked.")
