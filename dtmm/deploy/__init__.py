"""From a quantized network to C: memory plan, generated project, host library, firmware."""

from __future__ import annotations

from dtmm.deploy.arena import ArenaPlan, plan_arena
from dtmm.deploy.deployment import Deployment, plan
from dtmm.deploy.firmware import Measurement, StepCost, run_on_device
from dtmm.deploy.host import HostModel
from dtmm.deploy.project import write_project

__all__ = [
    "ArenaPlan",
    "Deployment",
    "HostModel",
    "Measurement",
    "StepCost",
    "plan",
    "plan_arena",
    "run_on_device",
    "write_project",
]
