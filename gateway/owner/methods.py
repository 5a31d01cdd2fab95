"""The owners' methods: `METHODS`, name -> function. Each asks the registry or the log and answers JSON."""

from __future__ import annotations

from typing import Any

import anyio.to_thread

from gateway.clock import new_id, now_us
from gateway.deliver import outbox
from gateway.owner import agents, callers, checks, runtimes, sessions, views, webhooks
from gateway.owner.context import Check, Owner
from gateway.owner.params import (
    CallersAdd,
    Create,
    DeliveryId,
    Name,
    Nothing,
    RuntimesCheck,
    RuntimesDeprecate,
    RuntimesPush,
    RuntimesRollback,
    SessionId,
    SessionsEvents,
    SessionsList,
    Update,
    WebhookId,
    WebhooksDeliveries,
    WebhooksList,
)
from gateway.owner.rpc import Methods, method
from registry import catalog, repo, rules

METHODS: Methods = {}
Json = dict[str, Any]


@method(METHODS, "agent.create", Create)
async def agent_create(owner: Owner, asked: Create) -> Json:
    rules.check_name(asked.name)
    given = asked.given()
    if asked.quick:
        given = agents.quick(asked.name, given)
    id = new_id("agt")
    makeup = agents.made(owner, id, given)
    fields = [field for field, value in given.items() if value is not None]
    agent = await owner.database.write(lambda conn: repo.create(conn, id, asked.name, makeup, sorted(fields), now_us()))
    return {**views.agent(owner, agent), "warnings": agents.warnings(owner, agent)}


@method(METHODS, "agent.list", Nothing)
async def agent_list(owner: Owner, _: Nothing) -> Json:
    found = await owner.database.read(repo.listing)
    return {"agents": [views.agent_line(owner, agent) for agent in found]}


@method(METHODS, "agent.show", Name)
async def agent_show(owner: Owner, asked: Name) -> Json:
    def read(conn: Any) -> Any:
        agent = repo.get(conn, asked.name)
        return agent, repo.origins(conn, agent)

    agent, origins = await owner.database.read(read)
    return {**views.head(owner, agent), "values": views.values(owner, agent, origins)}


@method(METHODS, "agent.update", Update)
async def agent_update(owner: Owner, asked: Update) -> Json:
    given = asked.changes.given()

    def write(conn: Any) -> Any:
        old, new = repo.change(conn, asked.name, lambda old: agents.remade(owner, old, given), now_us(), asked.if_version)
        return old, new, agents.count_in_flight(conn, new) if new is not old else 0

    old, new, in_flight = await owner.database.write(write)
    warnings = agents.warnings(owner, new, in_flight)
    return {"name": new.name, "version": new.version, "changed": views.changed(old, new), "warnings": warnings}


@method(METHODS, "agent.delete", Name)
async def agent_delete(owner: Owner, asked: Name) -> Json:
    await owner.database.write(lambda conn: repo.delete(conn, asked.name, now_us()))
    return {"name": asked.name, "deleted": True}


@method(METHODS, "agent.versions", Name)
async def agent_versions(owner: Owner, asked: Name) -> Json:
    found = await owner.database.read(lambda conn: repo.versions(conn, asked.name))
    return {"name": asked.name, "versions": [views.version_line(version) for version in found]}


@method(METHODS, "agent.card", Name)
async def agent_card(owner: Owner, asked: Name) -> Json:
    return owner.card(await owner.database.read(lambda conn: repo.get(conn, asked.name)))


@method(METHODS, "callers.add", CallersAdd)
async def callers_add(owner: Owner, asked: CallersAdd) -> Json:
    return await callers.add(owner, asked)


@method(METHODS, "callers.list", Nothing)
async def callers_list(owner: Owner, _: Nothing) -> Json:
    return await owner.database.read(callers.listing)


@method(METHODS, "callers.rotate", Name)
async def callers_rotate(owner: Owner, asked: Name) -> Json:
    return await callers.rotate(owner, asked.name)


@method(METHODS, "callers.revoke", Name)
async def callers_revoke(owner: Owner, asked: Name) -> Json:
    return await callers.revoke(owner, asked.name)


@method(METHODS, "keys.list", Nothing)
async def keys_list(owner: Owner, _: Nothing) -> Json:
    return {"keys": [views.card_key(owner, key) for key in owner.card_keys.published()]}


@method(METHODS, "keys.rotate", Nothing)
async def keys_rotate(owner: Owner, _: Nothing) -> Json:
    await anyio.to_thread.run_sync(owner.card_keys.rotate)
    return {"keys": [views.card_key(owner, key) for key in owner.card_keys.published()]}


@method(METHODS, "sessions.list", SessionsList)
async def sessions_list(owner: Owner, asked: SessionsList) -> Json:
    return await owner.database.read(lambda conn: sessions.listing(conn, asked))


@method(METHODS, "sessions.show", SessionId)
async def sessions_show(owner: Owner, asked: SessionId) -> Json:
    return await owner.database.read(lambda conn: sessions.show(conn, asked.id, owner.settings.sessions_dir))


@method(METHODS, "sessions.events", SessionsEvents)
async def sessions_events(owner: Owner, asked: SessionsEvents) -> Json:
    return await owner.database.read(lambda conn: sessions.events(conn, asked))


@method(METHODS, "sessions.cancel", SessionId)
async def sessions_cancel(owner: Owner, asked: SessionId) -> Json:
    await owner.database.read(lambda conn: sessions.exists(conn, asked.id))
    return {"id": asked.id, "canceled": await owner.cancel(asked.id)}


@method(METHODS, "webhooks.list", WebhooksList)
async def webhooks_list(owner: Owner, asked: WebhooksList) -> Json:
    return await owner.database.read(lambda conn: webhooks.listing(conn, asked))


@method(METHODS, "webhooks.deliveries", WebhooksDeliveries)
async def webhooks_deliveries(owner: Owner, asked: WebhooksDeliveries) -> Json:
    return await owner.database.read(lambda conn: webhooks.deliveries(conn, asked))


@method(METHODS, "webhooks.redeliver", DeliveryId)
async def webhooks_redeliver(owner: Owner, asked: DeliveryId) -> Json:
    await owner.database.write(lambda conn: outbox.redeliver(conn, asked.id))
    return {"id": asked.id, "state": "pending"}


@method(METHODS, "webhooks.test", WebhookId)
async def webhooks_test(owner: Owner, asked: WebhookId) -> Json:
    return await owner.ping(asked.id)


@method(METHODS, "runtimes.list", Nothing)
async def runtimes_list(owner: Owner, _: Nothing) -> Json:
    seen = await owner.database.read(repo.seen_runtimes)

    def look() -> list[Json]:
        return [views.runtime(owner, profile, seen.get(profile.name)) for profile in owner.profiles.values()]

    return {"runtimes": await anyio.to_thread.run_sync(look)}


@method(METHODS, "runtimes.check", RuntimesCheck)
async def runtimes_check(owner: Owner, asked: RuntimesCheck) -> Json:
    profile = owner.profiles.get(asked.name)
    if profile is None and runtimes.is_image(asked.name):
        return await runtimes.check_image(owner, asked.name, asked)
    profile = owner.profile(asked.name)
    if profile.image:
        return await runtimes.check_pushed(owner, asked)
    return {"name": profile.name, **_report(await checks.runtime(owner, profile))}


@method(METHODS, "runtimes.push", RuntimesPush)
async def runtimes_push(owner: Owner, asked: RuntimesPush) -> Json:
    return await runtimes.push(owner, asked)


@method(METHODS, "runtimes.versions", Name)
async def runtimes_versions(owner: Owner, asked: Name) -> Json:
    return await owner.database.read(lambda conn: runtimes.versions(conn, asked.name))


@method(METHODS, "runtimes.rollback", RuntimesRollback)
async def runtimes_rollback(owner: Owner, asked: RuntimesRollback) -> Json:
    return await owner.database.write(lambda conn: runtimes.rollback(conn, asked))


@method(METHODS, "runtimes.deprecate", RuntimesDeprecate)
async def runtimes_deprecate(owner: Owner, asked: RuntimesDeprecate) -> Json:
    return await owner.database.write(lambda conn: runtimes.deprecate(conn, asked))


@method(METHODS, "models.list", Nothing)
async def models_list(_: Owner, __: Nothing) -> Json:
    found = catalog.models().values()
    return {"models": [{"id": model.id, "provider": model.provider, "name": model.name} for model in found]}


@method(METHODS, "doctor", Nothing)
async def doctor(owner: Owner, _: Nothing) -> Json:
    return _report(await checks.doctor(owner))


def _report(found: list[Check]) -> Json:
    return {"ok": all(check.ok for check in found if check.required), "checks": [check.to_json() for check in found]}
