"""A small server that speaks the ComfyUI API and renders simulated clips."""
