"""Prints what python-dotenv makes of a variable in a file: dotenv_value.py FILE NAME"""

import sys

from dotenv import dotenv_values

print(dotenv_values(sys.argv[1])[sys.argv[2]], end="")
