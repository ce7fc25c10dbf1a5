"""The command line ``multiway-encoder``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from multiway_core.app import CommandLine

from multiway_encoder.app import APP
from multiway_encoder.commands.descriptions import descriptions
from multiway_encoder.commands.distill import adapt_vocab, cut_vocab, distill, search_subnet
from multiway_encoder.commands.evaluate import evaluate
from multiway_encoder.commands.quantize import quantize
from multiway_encoder.commands.text import classify, embed, similarity, tag
from multiway_encoder.commands.train import finetune, pretrain

cli = CommandLine(APP)
for command in (
    embed,
    similarity,
    classify,
    tag,
    quantize,
    finetune,
    pretrain,
    distill,
    evaluate,
    descriptions,
):
    cli.command()(command)
cli.command("search-subnet")(search_subnet)
cli.command("adapt-vocab")(adapt_vocab)
cli.command("cut-vocab")(cut_vocab)
cli.add_demo()
cli.add_serve()
