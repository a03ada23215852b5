"""A new parameter of pictures is one field: all that carries parameters is made of `ImageParameters`."""

import subprocess
import sys

from tests import ROOT


def test_a_field_more_is_carried_from_the_command_line_to_the_recipe_and_back() -> None:
    command = [sys.executable, "-m", "tests.runner.one_parameter_more"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
