"""Who calls the admin API."""

from gateway.controlplane.access.guard import calling
from gateway.controlplane.access.roles import Role
from gateway.controlplane.statuses import Context

ACTOR_KEY = "cutover-actor"


def actor(context: Context) -> str:
    """Whom the audit log names: who the guard found it to be, with what it says in `cutover-actor`."""
    claim = next((str(value) for key, value in context.invocation_metadata() or () if key == ACTOR_KEY), "")
    caller = calling()
    return claim or context.peer() if caller is None else caller.actor(claim)


def may_see(model: str) -> bool:
    """Whether the caller may know of a model."""
    caller = calling()
    return caller is None or caller.roles.may(Role.VIEWER, model)
