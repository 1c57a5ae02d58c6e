"""The agent command line, QA policies and terminal display."""
