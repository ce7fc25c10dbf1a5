"""The shell that every app wears: command-line conventions, batch runs over many files, and the demo's frame.

Needs the ``app`` extra (Typer, Rich, Gradio). Gradio is imported when a demo is built, torch when a device or
dtype is chosen, so that ``--help`` answers at once.
"""

from multiway_core.app.batch import Outcome, StopRun, run_jobs
from multiway_core.app.batch_log import BatchLog
from multiway_core.app.command import (
    counting,
    note,
    pick_device,
    pick_dtype,
    progress_bar,
    run,
    ticking,
    write_json,
    write_stdout,
)
from multiway_core.app.command_line import CommandLine
from multiway_core.app.demo_parts import (
    download_buttons,
    example_gallery,
    html_view,
    named_as_uploaded,
    run_and_stop,
    viewer,
)
from multiway_core.app.examples import examples_folder, repository_examples
from multiway_core.app.frame import frame, launch, messages
from multiway_core.app.inputs import Input, find_inputs, is_done, plan_outputs, stdin_file
from multiway_core.app.model import ModelLoader, load_pipeline
from multiway_core.app.options import (
    DeviceOption,
    DtypeOption,
    HostOption,
    JobsOption,
    JsonOption,
    LimitOption,
    MinutesOption,
    ModelOption,
    ModelOptions,
    OverwriteOption,
    PageOptions,
    ReportOption,
    ReportOptions,
    RunFolderOption,
    SeedOption,
)
from multiway_core.app.registry import App, InstalledApp, installed_apps
from multiway_core.app.training_options import TrainingOptions

__all__ = [
    "App",
    "BatchLog",
    "CommandLine",
    "DeviceOption",
    "DtypeOption",
    "HostOption",
    "Input",
    "InstalledApp",
    "JobsOption",
    "JsonOption",
    "LimitOption",
    "MinutesOption",
    "ModelLoader",
    "ModelOption",
    "ModelOptions",
    "Outcome",
    "OverwriteOption",
    "PageOptions",
    "ReportOption",
    "ReportOptions",
    "RunFolderOption",
    "SeedOption",
    "StopRun",
    "TrainingOptions",
    "counting",
    "download_buttons",
    "example_gallery",
    "examples_folder",
    "find_inputs",
    "frame",
    "html_view",
    "installed_apps",
    "is_done",
    "launch",
    "load_pipeline",
    "messages",
    "named_as_uploaded",
    "note",
    "pick_device",
    "pick_dtype",
    "plan_outputs",
    "progress_bar",
    "repository_examples",
    "run",
    "run_and_stop",
    "run_jobs",
    "stdin_file",
    "ticking",
    "viewer",
    "write_json",
    "write_stdout",
]
