"""The commands: one file each, `sam2ft.cli.sweep` for `launch/sweep.py`. They parse arguments, call one function
and print; anything that a second caller could want lies in the domain below.
"""
