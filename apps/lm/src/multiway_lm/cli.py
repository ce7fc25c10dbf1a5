"""The command line ``multiway-lm``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from multiway_core.app import CommandLine

from multiway_lm.app import APP
from multiway_lm.commands.draw import draw
from multiway_lm.commands.models import bench, evaluate, quantize
from multiway_lm.commands.serve import serve
from multiway_lm.commands.text import chat, generate, score
from multiway_lm.commands.train import distill, train

cli = CommandLine(APP)
for command in (generate, chat, score, evaluate, train, distill, draw, quantize, bench, serve):
    cli.command()(command)
cli.add_demo()
