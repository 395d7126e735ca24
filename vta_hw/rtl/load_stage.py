"""The load stage."""

from __future__ import annotations

from vta_hw.rtl.stage import StageControl
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Stage
from vta_hw.spec.machine import STAGE_SLOTS


class LoadStage(StageControl):
    """Hands LOADs to the loaders `inp` and `wgt` (rule L1); members as of `StageControl`."""

    def __init__(self, config: VtaConfig) -> None:
        super().__init__(config, Stage.LOAD, STAGE_SLOTS, {})
