"""Who calls the admin API."""

from gateway.controlplane.statuses import Context

ACTOR_KEY = "cutover-actor"


def actor(context: Context) -> str:
    """What the caller says in `cutover-actor`, else its address."""
    for key, value in context.invocation_metadata() or ():
        if key == ACTOR_KEY and value:
            return str(value)
    return context.peer()
