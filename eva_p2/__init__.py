"""The agent people run: base agent, deep analysis and taste, blended by one rule."""
