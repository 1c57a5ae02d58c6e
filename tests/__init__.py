"""Tests; a package, so that helpers shared between test files can be imported by name."""
