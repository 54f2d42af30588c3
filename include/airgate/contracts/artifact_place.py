"""Where a version's files may be fetched from. Whoever may write to MLflow says where they lie, and MLflow's client goes there
with whatever credentials the process has: to a web server with MLflow's own name and password."""

import re
from urllib.parse import urlsplit

# Stores whose clients talk to the provider's hosts, or to those that this process's own settings name, never to a host that the
# address brings along.
STORES = ("file", "gs", "s3")
_AZURE = re.compile(r"[^@:/?#]+@[A-Za-z0-9-]+\.(?:blob|dfs)\.core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)")


def refusal(location: str, tracking_uri: str) -> str | None:
    """Why nothing is fetched from an address, None when it may be. Names no more of it than scheme and host.

    Allowed are files of this machine or a mounted disk, object stores at their provider, and MLflow's own server, by the very
    scheme, host and port of the tracking URI.
    """
    try:
        place, server = urlsplit(location), urlsplit(tracking_uri)
    except ValueError as error:
        return f"their address cannot be read ({error})"
    if place.scheme in ("", *STORES):
        return None
    shown = f"{place.scheme}://{place.netloc.rpartition('@')[2][:100]}"
    own = (server.netloc, server.netloc.rpartition("@")[2])
    if place.scheme in ("http", "https"):
        # The text, not its parts: parsers differ about a backslash or an '@', and then one checks what another does not call.
        allowed = bool(server.netloc) and location.startswith(tuple(f"{server.scheme}://{host}/" for host in own))
    elif place.scheme == "mlflow-artifacts":
        allowed = server.scheme in ("http", "https") and place.netloc in ("", *own)
    else:
        allowed = place.scheme in ("wasbs", "abfss") and _AZURE.fullmatch(place.netloc) is not None
    return None if allowed else (f"they are said to lie at {shown}. Allowed: MLflow's own server, a disk, and an object store "
                                 f"({', '.join((*STORES[1:], 'wasbs', 'abfss'))}) at its provider")
