"""The version, which the build and the command line read."""

__version__ = "2.0.0"
