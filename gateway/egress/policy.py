"""What an agent may reach."""

from __future__ import annotations

from dataclasses import dataclass

from registry.hosts import Host


@dataclass(frozen=True, slots=True)
class Policy:
    """Not `strict`: what the policy does not name passes too, and is written down."""

    hosts: tuple[Host, ...] = ()
    everything: bool = False
    strict: bool = True

    @property
    def passes(self) -> bool:
        """Whether anything can pass at all."""
        return self.everything or not self.strict or bool(self.hosts)

    def names(self, host: str, port: int) -> bool:
        return self.everything or any(allowed.admits(host, port) for allowed in self.hosts)


EVERYTHING = Policy(everything=True)  # by the proxy, all the same
