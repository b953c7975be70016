"""The command line: one module per noun, imported only when its command is used.

The only package that installs signal handlers and sets up logging. It decides nothing: a command builds a
configuration or asks the client, and prints.
"""
