"""Deliveries: at least once, in order, nobody waits for another, nothing is lost, and what fails ends as an owner's business.

[PUSH-1] [PUSH-2] [PUSH-3]
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import anyio
import pytest

from tests.gateway.deliver.gateways import deliveries, gateway, push
from tests.gateway.deliver.receivers import Receiver, receiving
from tests.support import Client, gateway_process

TOLD = ("working", "word0 word1 ", "completed")


async def test_a_receiver_that_fails_five_times_gets_every_delivery_in_order(tmp_path: Path, receiver: Receiver) -> None:
    receiver.statuses = [500, 503, 404, 429, 500, 200, 500, 200, 302, 200]
    async with gateway(tmp_path) as client:
        await client.send("hello", "N=2", configuration=push(f"{receiver.url}/status"))
        await receiver.until_said(*TOLD)
        found = await deliveries(client, "delivered", "delivered", "delivered")
    first, second, third = (got.id for got in receiver.once())
    assert [got.id for got in receiver.got] == [first] * 6 + [second] * 2 + [third] * 2
    assert len({got.body for got in receiver.got}) == 3
    assert [(delivery["id"], delivery["attempts"], delivery["error"]) for delivery in found] == [
        (first, 6, None),
        (second, 2, None),
        (third, 2, None),
    ]


async def test_what_never_succeeds_is_dead_and_is_sent_again_when_an_owner_says_so(tmp_path: Path, receiver: Receiver) -> None:
    receiver.status = 500
    async with gateway(tmp_path, webhook_attempts=3) as client:
        task = await client.send("hello", "N=2", configuration=push(f"{receiver.url}/status", id="mine"))
        dead = await deliveries(client, "dead", "dead", "dead")
        assert [got.id for got in receiver.got] == [delivery["id"] for delivery in dead for _ in range(3)]
        made_at, settled_at = dead[2].pop("created_at"), dead[2].pop("settled_at")
        assert made_at < settled_at
        (config,) = (await client.owner("webhooks.list"))["webhooks"]
        assert config.pop("created_at")
        mine = {"agent": "hello", "task_id": task["id"], "session_id": task["contextId"], "url": f"{receiver.url}/status"}
        assert config == {
            **mine,
            "id": dead[2]["webhook_id"],
            "name": "mine",
            "principal": "anonymous",
            "version": "1.0",
            "level": None,
            "types": [],
            "authentication": None,
            "deliveries": {"dead": 3},
        }
        assert dead[2] == {
            **mine,
            "id": receiver.once()[2].id,
            "webhook_id": config["id"],
            "state": "dead",
            "attempts": 3,
            "seq": dead[2]["seq"],
            "upto": dead[2]["seq"],
            "part": "statusUpdate",
            "next_at": None,
            "error": "The receiver answered 500.",
        }
        assert await check(client) == (False, "0 deliveries wait, 3 were given up")
        receiver.status = 200
        again = await client.owner("webhooks.redeliver", id=dead[2]["id"])
        assert again == {"id": dead[2]["id"], "state": "pending"}
        await deliveries(client, "dead", "dead", "delivered")
        assert receiver.acknowledged == [dead[2]["id"]]


async def check(client: Client) -> tuple[bool, str]:
    (found,) = [one for one in (await client.owner("doctor"))["checks"] if one["name"] == "webhooks"]
    assert not found["required"]
    return found["ok"], found["result"]


async def test_deliveries_are_listed_page_by_page_and_by_state(tmp_path: Path, receiver: Receiver) -> None:
    async with gateway(tmp_path) as client:
        for number in range(2):
            await client.send("hello", "N=2", configuration=push(f"{receiver.url}/ok", id=f"c{number}"))
        everything = await deliveries(client, *["delivered"] * 6)
        seen, cursor = [], None
        while True:
            page = await client.owner("webhooks.deliveries", state="delivered", limit=4, cursor=cursor)
            seen += page["deliveries"]
            if (cursor := page["next"]) is None:
                break
        assert seen[::-1] == everything
        assert (await client.owner("webhooks.deliveries", state="dead"))["deliveries"] == []
        first = await client.owner("webhooks.list", limit=1)
        second = await client.owner("webhooks.list", limit=1, cursor=first["next"])
        assert [page["webhooks"][0]["name"] for page in (first, second)] == ["c1", "c0"]
        assert second["next"] is None
        assert await check(client) == (True, "0 deliveries wait, 0 were given up")


@pytest.mark.parametrize(
    ("status", "asked", "seconds"),
    [(503, "1800", 1800), (429, "999999999", 3600), (429, "9" * 400, 3600), (503, "Thu, 01 Jan 2099 00:00:00 GMT", 3600)],
)
async def test_a_busy_receiver_is_left_alone_as_long_as_it_asks(
    tmp_path: Path, receiver: Receiver, status: int, asked: str, seconds: int
) -> None:
    """[PUSH-5]"""
    receiver.status, receiver.retry_after = status, asked
    async with gateway(tmp_path) as client:
        await client.send("hello", "N=2", configuration=push(f"{receiver.url}/status"))
        while not (found := (await client.owner("webhooks.deliveries"))["deliveries"][-1])["error"]:  # noqa: ASYNC110
            await anyio.sleep(0.02)  # there is no event for a row
    wait = datetime.fromisoformat(found["next_at"]) - datetime.fromisoformat(found["created_at"])
    assert (found["state"], found["attempts"]) == ("pending", 1)
    assert seconds <= wait.total_seconds() <= seconds + 60


@pytest.mark.parametrize(
    ("status", "asked"), [(500, "1800"), (503, "soon"), (503, "-5"), (429, "Thu, 01 Jan 1970 00:00:00 GMT"), (429, "")]
)
async def test_what_asks_for_no_time_to_come_is_tried_again_as_ever(
    tmp_path: Path, receiver: Receiver, status: int, asked: str
) -> None:
    receiver.statuses, receiver.retry_after = [status], asked
    async with gateway(tmp_path) as client:
        await client.send("hello", "N=2", configuration=push(f"{receiver.url}/status"))
        await receiver.until_said(*TOLD)


async def test_an_answer_that_breaks_off_is_no_answer(tmp_path: Path, receiver: Receiver) -> None:
    async with gateway(tmp_path) as client:
        await client.send("hello", "N=2", configuration=push(f"{receiver.url}/cut"))
        await receiver.until_said(*TOLD)
        assert (await deliveries(client, *["delivered"] * 3))[0]["attempts"] == 2
    assert receiver.got[0].id == receiver.got[1].id


async def test_a_redirect_is_a_failure_and_nobody_follows_it(tmp_path: Path, receiver: Receiver) -> None:
    """[PUSH-4]"""
    with receiving() as inside:
        receiver.location = f"{inside.url}/ok"
        async with gateway(tmp_path, webhook_attempts=1) as client:
            await client.send("hello", "N=2", configuration=push(f"{receiver.url}/redirect"))
            dead = await deliveries(client, "dead", "dead", "dead")
        assert dead[0]["error"] == "The receiver answered 307: redirects are not followed."
        assert inside.got == []


async def test_an_endless_answer_is_read_to_a_bound(tmp_path: Path, receiver: Receiver) -> None:
    async with gateway(tmp_path) as client:
        await client.send("hello", "N=2", configuration=push(f"{receiver.url}/endless"))
        await deliveries(client, *["delivered"] * 3)


async def test_a_receiver_that_is_gone_for_good_is_not_asked_again(tmp_path: Path, receiver: Receiver) -> None:
    receiver.status = 410
    async with gateway(tmp_path) as client:
        await client.send("hello", "N=2", configuration=push(f"{receiver.url}/status"))
        await deliveries(client, "dead", "dead", "dead")
    assert len(receiver.got) == 3


async def test_a_receiver_that_is_not_there_or_too_slow_is_told_to_owners(tmp_path: Path, receiver: Receiver) -> None:
    with receiving() as gone:
        url = gone.url
    async with gateway(tmp_path, webhook_attempts=1, webhook_seconds=0.3) as client:
        await client.send("hello", "N=2", configuration=push(f"{url}/ok"))
        dead = await deliveries(client, "dead", "dead", "dead")
        assert dead[0]["error"].startswith("ConnectError: ")
        await client.send("hello", "N=2", configuration=push(f"{receiver.url}/hold"))
        dead = await deliveries(client, *["dead"] * 6)
        assert dead[3]["error"] == "No answer within 0.3 seconds."


async def test_a_slow_receiver_delays_nobody_else(tmp_path: Path, receiver: Receiver) -> None:
    """With room for four deliveries at once, five tasks of a receiver that answers none of them."""
    with receiving() as quick:
        async with gateway(tmp_path, webhook_concurrency=4, webhook_seconds=30) as client:
            for _ in range(5):
                await client.send("hello", "N=2", configuration=push(f"{receiver.url}/hold"))
            await receiver.until(lambda: len(receiver.got) == 1)  # its share: a quarter
            await client.send("hello", "N=2", configuration=push(f"{quick.url}/ok"))
            await quick.until_said(*TOLD)
            assert len(receiver.got) == 1
            receiver.release.set()
            await receiver.until(lambda: len(receiver.acknowledged) == 15)


async def test_configs_of_one_task_do_not_wait_for_one_another(tmp_path: Path, receiver: Receiver) -> None:
    with receiving() as quick:
        async with gateway(tmp_path) as client:
            task = await client.send("hello", "N=2 ASK", configuration=push(f"{receiver.url}/hold", id="slow"))
            again = push(f"{quick.url}/ok", id="quick")
            await client.send("hello", "N=2", taskId=task["id"], configuration=again)
            await quick.until(lambda: len(quick.got) == 3)
            assert [got.said for got in receiver.got] == ["working"]


async def test_a_gateway_that_stops_hands_its_deliveries_to_the_next(tmp_path: Path, receiver: Receiver) -> None:
    async with gateway(tmp_path) as client:
        await client.send("hello", "N=2", configuration=push(f"{receiver.url}/hold"))
        await receiver.until(lambda: bool(receiver.got))
    receiver.release.set()
    async with gateway(tmp_path) as client:
        await receiver.until_said(*TOLD)
        found = await deliveries(client, *["delivered"] * 3)
    assert [delivery["attempts"] for delivery in found] == [1, 1, 1]


async def test_a_killed_gateway_loses_nothing_and_repeats_only_with_the_same_id(tmp_path: Path, receiver: Receiver) -> None:
    env = {
        "SWITCHBOARD_ALLOW_PRIVATE_HOSTS": "127.0.0.0/8",
        "SWITCHBOARD_WEBHOOK_BACKOFF_SECONDS": "0.05",
        "SWITCHBOARD_WEBHOOK_SECONDS": "1",
    }
    receiver.status = 503
    with gateway_process(tmp_path, env) as process, anyio.fail_after(90):
        client = process.client()
        held = await client.send("hello", "N=2", configuration=push(f"{receiver.url}/hold"))
        refused = await client.send("hello", "N=2", configuration=push(f"{receiver.url}/status"))
        await receiver.until(lambda: {got.path for got in receiver.got} == {"/hold", "/status"})
        process.kill()  # one delivery is on its way, five are owed
        await client.http.aclose()
        receiver.release.set()
        receiver.status = 200
        process.start()
        client = process.client()
        await receiver.until(lambda: len(set(receiver.acknowledged)) == 6)
        await deliveries(client, *["delivered"] * 6)
        await client.http.aclose()
    for task, path in ((held, "/hold"), (refused, "/status")):
        mine = [got for got in receiver.once() if got.path == path]
        assert tuple(got.said for got in mine) == TOLD
        assert {got.json[key]["taskId"] for got in mine for key in got.json} == {task["id"]}
        order = [got.id for got in receiver.got if got.path == path]
        assert order == sorted(order, key=[got.id for got in mine].index)
