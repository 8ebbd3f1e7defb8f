"""``python -m superlearner`` is the command ``superlearner``."""

from superlearner.cli import main

if __name__ == "__main__":
    main(prog_name="superlearner")
