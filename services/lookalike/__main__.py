"""``python -m lookalike``: the same as the command ``lookalike``."""

from lookalike.cli import main

main(prog_name="lookalike")
