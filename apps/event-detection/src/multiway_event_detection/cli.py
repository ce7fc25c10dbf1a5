"""The command line. Numpy, torch and OpenCV are not imported here: ``--help`` answers at once."""

import os

from multiway_core.app import CommandLine

from multiway_event_detection.app import APP
from multiway_event_detection.commands.detection import detect, evaluate, street_dataset, train
from multiway_event_detection.commands.recordings import convert, info, render, simulate
from multiway_event_detection.commands.snn_rnn import snn_rnn

# OpenCV and the FFmpeg inside it write lines of their own about bad videos; ours says it once.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

cli = CommandLine(APP)
for command in (detect, evaluate, train, street_dataset, info, convert, render, simulate, snn_rnn):
    cli.command()(command)
cli.add_demo(
    "Open the demo page: recordings, videos or the webcam, with boxes at any microsecond.",
    max_file_size="200mb",
)
cli.add_serve()
