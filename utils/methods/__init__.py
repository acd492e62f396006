"""Every method's settings: METHODS, name -> Method.  published.py: what was published of them.

--protocol NAME sets them as defaults below --config and flags; every result names the protocol with what was
changed of it.
"""
import dataclasses
from collections.abc import Callable

from utils.flags import Presets
from utils.methods.cda import CDA
from utils.methods.controls import CONTROLS
from utils.methods.cv_dd import CV_DD, SRE2L_PLUS
from utils.methods.d4m import D4M
from utils.methods.delt import DELT
from utils.methods.dwa import DWA
from utils.methods.edc import EDC
from utils.methods.fadrm import FADRM, FADRM_PLUS
from utils.methods.g_vbsm import G_VBSM
from utils.methods.method import STAGES, USUAL, Case, Method, Settings
from utils.methods.prism import PRISM
from utils.methods.prism_fast import PRISM_FAST
from utils.methods.rd3 import RD3
from utils.methods.rded import RDED
from utils.methods.recovery_only import RECOVERY_ONLY
from utils.methods.sre2l import SRE2L
from utils.pieces import Options, Values, expected_values, flatten, identity, option

METHODS = {method.name: method for method in (
    PRISM, SRE2L, CDA, G_VBSM, EDC, DELT, RDED, DWA, D4M, CV_DD, SRE2L_PLUS, FADRM, FADRM_PLUS,
    PRISM_FAST, *CONTROLS, RD3, RECOVERY_ONLY)}
NO_PROTOCOL = ("dataset", "ipc", "model", "threads", "seed")
__all__ = ["METHODS", "STAGES", "Case", "Method", "MethodFlags", "Settings", "method_named", "method_preset",
           "protocol_record", "protocol_settings"]


def method_named(name: str) -> Method:
    """The method of that name.   Raises: ValueError listing the known ones."""
    if name not in METHODS:
        raise ValueError(f"--protocol {name}: expected one of {', '.join(METHODS)}")
    return METHODS[name]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodFlags(Options):
    """What every stage takes: whose recipe its defaults are."""

    protocol: str = option(PRISM.name, f"whose defaults to take (utils/methods): {', '.join(METHODS)}",
                           source="paper 4.1, supplement C", identity=False)

    @property
    def method(self) -> Method:
        """The protocol's entry."""
        return method_named(self.protocol)


def protocol_settings(stage: str, name: str, case: Case = USUAL) -> Settings:
    """What a protocol changes in a stage's defaults, which are PRISM's on ImageNet-1K."""
    found = method_named(name)
    if found is not PRISM:
        return found.settings(stage, case)
    return {key: value for key, value in found.settings(stage, case).items()
            if key not in found.settings(stage) or found.settings(stage)[key] != value}


def method_preset(stage: str, case_of: Callable[[Values], Case]) -> Presets:
    """The `presets` of `parse_config`: what --protocol implies in a stage, for the case of what is given."""
    return lambda given: dict(protocol_settings(stage, given.get("protocol", PRISM.name), case_of(given)))


def protocol_record(stage: str, config: MethodFlags, case: Case = USUAL, *, taken: Settings | None = None,
                    implied: Settings | None = None) -> Values:
    """A protocol's name, and the settings in which a run differs from it: what a result says of itself.

    Left out is what is no part of a protocol: data set, IPC, student, threads and seed.
    Args: taken: what the run makes of options that leave a value to the data, the IPC or the labels;
          implied: what it would make of them, and of others that the data set presets, were none given.
    """
    given = flatten(config) | dict(taken or {})
    settings = {**(implied or {}), **protocol_settings(stage, config.protocol, case)}
    expected = expected_values(type(config), given, settings)
    reading = config.method.reading
    return {"name": config.protocol, "changed": [
        name for name in identity(config) if name not in NO_PROTOCOL and expected[name] != given[name]],
        **({"reading": reading} if reading else {})}
