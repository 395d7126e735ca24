"""Errors that a user can cause. Every message names what was wrong, its value, and the mend."""


class VtaKitError(Exception):
    """Base of all errors of the kit. Its text is one sentence, fit to be shown to a user."""


class ConfigError(VtaKitError):
    """A configuration that cannot be built, or does not match what it is used with."""


class EncodingError(VtaKitError):
    """A value that does not fit its instruction field, or text that is no instruction."""


class ProgramError(VtaKitError):
    """A program or instruction stream that is malformed as data (not: faults when run)."""


class DeviceError(VtaKitError):
    """A device that does not exist, was asked for what it cannot do, or broke down."""
