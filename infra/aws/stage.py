"""Prints what infra/samconfig.toml says of a stage: `stage.py STAGE stack_name`, or the name of a parameter of the template
instead of `stack_name`."""

import sys
import tomllib
from pathlib import Path

stage, wanted = sys.argv[1:]
path = Path("infra/samconfig.toml")
stages = {name: tables for name, tables in tomllib.loads(path.read_text()).items() if isinstance(tables, dict)}
if stage not in stages:
    sys.exit(f"{path} has no stage {stage}. It has {' and '.join(stages)}.")
overrides = stages[stage]["deploy"]["parameters"]["parameter_overrides"]
values = dict(pair.split("=", 1) for pair in overrides) | stages[stage]["global"]["parameters"]
print(values.get(wanted) or sys.exit(f"{path} does not say {wanted} of the stage {stage}."))
