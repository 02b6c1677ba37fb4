"""Subinterpreters that share the GIL, for the programs of tests.

The module that makes them has another name in each release.  Since CPython 3.12 a
subinterpreter can have a GIL of its own.
"""

import sys

if sys.version_info >= (3, 13):
    import _interpreters
else:
    import _xxsubinterpreters as _interpreters


def create():
    """Make a subinterpreter.  Return its id."""
    if sys.version_info >= (3, 13):
        return _interpreters.create('legacy')
    return _interpreters.create()


def run_string(interpreter, script):
    """Run a script.  If it raises an exception, raise RuntimeError."""
    error = _interpreters.run_string(interpreter, script)
    if error is not None:
        raise RuntimeError(error.formatted)


destroy = _interpreters.destroy
