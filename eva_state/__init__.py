"""The shared state: journal, views, index, legacy import."""
