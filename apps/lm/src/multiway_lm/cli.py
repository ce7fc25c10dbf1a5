"""The command line ``multiway-lm``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from multiway_core.app import CommandLine

from multiway_lm.app import APP
from multiway_lm.commands.serving import serve
from multiway_lm.commands.study import bench, evaluate, quantize
from multiway_lm.commands.train import distill, train
from multiway_lm.commands.words import chat, generate, score

cli = CommandLine(APP)
for command in (generate, chat, score, evaluate, train, distill, quantize, bench, serve):
    cli.command()(command)
cli.add_demo()
