"""Addresses: which of them are this machine's own.

The one other place that asks this is `tidegate_credentials`, which may import nothing of ours.
"""


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only; `localhost` counts as one."""
    if host in ("localhost", "127.0.0.1", "::1"):
        return True
    from ipaddress import ip_address  # here: the command line asks this before every call

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
