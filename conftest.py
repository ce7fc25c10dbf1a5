"""Fixtures of all members' tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def call_app(capfd):
    """``call_app(cli, name)`` runs an app's command line in this process: arguments -> exit code, output, errors."""

    def caller(cli, name):
        from multiway_core.app import run

        def run_command(*arguments) -> tuple[int, str, str]:
            capfd.readouterr()
            with pytest.raises(SystemExit) as exit_:
                run(cli, [str(argument) for argument in arguments], name=name)
            out, err = capfd.readouterr()
            assert "Traceback" not in err
            assert "internal error" not in err
            code = exit_.value.code
            assert isinstance(code, int)
            return code, out, err

        return run_command

    return caller
