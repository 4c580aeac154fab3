"""Waiting for what takes its time, with a limit."""

import time


def wait_until(holds, timeout, pause=0.1):
    """Seconds until `holds()`; None when it did not within `timeout`."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > timeout:
            return None
        time.sleep(pause)
    return time.monotonic() - began
