"""Generate and measure: ComfyUI client, workflow, bandit, fast metrics, the base agent."""
