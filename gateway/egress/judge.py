"""Who may be reached in one turn: decides, writes every decision down, tells the owner, and remembers for the end.

A host must be on the agent's list, and its addresses must be public ones or the operator's own exceptions; they are
looked up once and only they are dialled. In audit mode everything passes, and the line says what strict would have done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network

import structlog

from adapters import events as ev
from adapters.events import Event
from gateway.deliver.guard import Guard, Refused
from gateway.egress.policy import Policy

MAX_TOLD = 20  # hosts of one turn the owner is told of
_ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_UNREACHED = ("upstream_api_error", "permission_denied", "startup_crash", "runtime_crash")
log_ = structlog.get_logger("switchboard.egress")


class Denied(Exception):
    """The text is for whoever asked: inside, where the agent's own words may come from it."""


class Judge:
    """`named` says whose turn it is, `agent` among it; `tell` puts events into its log."""

    def __init__(self, policy: Policy, guard: Guard, tell: Callable[[Sequence[Event]], None], named: Mapping[str, str]) -> None:
        self._policy, self._guard, self._tell, self._agent = policy, guard, tell, named["agent"]
        self._log = log_.bind(**named)
        self._denied: set[str] = set()
        self.model_failed = False  # the last request to the model

    async def admit(self, way: str, host: str, port: int) -> Sequence[str]:
        """The addresses at which it may be reached. Raises Denied."""
        addresses, reason = await self._look(host, port)
        audit = not self._policy.strict
        decision = "allowed" if not reason else "would_deny" if audit else "denied"
        self._log.info("egress", decision=decision, way=way, host=host, port=port, addresses=addresses, reason=reason)
        if not reason:
            return addresses
        if audit:
            return await self._anywhere(host, port)
        self._deny(f"{host}:{port}", reason)
        raise Denied(f"The host {host} may not be reached from here.")

    async def _look(self, host: str, port: int) -> tuple[tuple[str, ...], str]:
        """A host's addresses, and why it may not be reached."""
        if not self._policy.names(host, port):
            return (), "It is not on the agent's list."
        try:
            return await self._guard.reach(host, port), ""
        except Refused as exc:
            return (), exc.detail

    async def _anywhere(self, host: str, port: int) -> Sequence[str]:
        try:
            return await replace(self._guard, networks=_ANYWHERE).reach(host, port)
        except Refused as exc:
            raise Denied(f"The host {host} was not found.") from exc

    def _deny(self, place: str, reason: str) -> None:
        if place in self._denied:
            return
        self._denied.add(place)
        if len(self._denied) <= MAX_TOLD:
            fix = f"To allow more: switchboard agent update {self._agent} --egress HOST,..."
            self._tell([ev.notice("egress_denied", f"The agent was kept from {place}. {reason} {fix}")])

    def judged(self, last: list[Event]) -> list[Event]:
        """A turn's last events: one that failed for want of a host that was denied says so.

        Nobody tells why a runtime failed but itself. Denials are to blame where something was denied, the failure is of
        the kind that a closed door makes, and the model had not failed by itself.
        """
        error = last[-1].body["error"] or {}
        if not self._denied or self.model_failed or error.get("category") not in _UNREACHED:
            return last
        told = ev.done("failed", "egress_denied").body["error"]
        return [*last[:-1], replace(last[-1], body={**last[-1].body, "error": told})]
