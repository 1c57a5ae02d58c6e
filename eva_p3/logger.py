"""The logger of this room. Handlers and levels are set at the doors (``eva_env_base.setup_logging``)."""

from __future__ import annotations

import logging

log = logging.getLogger("eva.deep")
