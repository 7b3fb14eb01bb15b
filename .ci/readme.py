"""Prints the n-th sh block of README.md, so that CI runs what a reader is told to run."""

import pathlib
import re
import sys

readme = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
blocks = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
print(blocks[int(sys.argv[1])].strip())
