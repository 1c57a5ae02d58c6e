"""A small server that speaks the ComfyUI API and renders simulated clips whose quality follows a hidden surface.

It is a stand-in for trying EVA and for tests; it is not ComfyUI and says so everywhere. ``python -m eva_sim --help``;
in tests: ``with running_simulator(folder, seed=0, speed=50) as sim: sim.url``.
"""

from eva_sim.handle import SimHandle, running_simulator, start_simulator
from eva_sim.surface import Defects, QualitySurface

__all__ = ["Defects", "QualitySurface", "SimHandle", "running_simulator", "start_simulator"]
