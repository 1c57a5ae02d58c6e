"""The main classes in one place, each imported when it is first asked for: ``from qa import agent_namespace as eva; eva.ComfyClient``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

HOMES = {
    "EnhancedVideoAgentV4": "eva_p1.agent_base",
    "EnhancedVideoAgentV4Merged": "eva_p2.merged_agent",
    "AgentHooks": "eva_p1.agent_hooks",
    "AgentOptions": "eva_p1.agent_types",
    "ComfyClient": "eva_p1.comfy_client",
    "MultiDimensionalBandit": "eva_p1.multi_bandit",
    "SearchSpace": "eva_p1.search_space",
    "VideoAnalyzer": "eva_p1.video_analyzer",
    "PromptGenerator": "eva_p1.prompt_generator",
    "VideoProcessor": "eva_p3.video_processor",
    "StateStore": "eva_state.store",
}
__all__ = sorted(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
