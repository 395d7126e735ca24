"""Implementations of `runtime.device.Device`, each imported when it is opened."""
