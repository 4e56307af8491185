"""Conformance suites for the extension points, to be run by anybody's plug-in."""
