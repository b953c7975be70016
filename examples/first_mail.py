"""Send one message and receive it. A server must run: `posthouse serve`, or an Apache RocketMQ on its usual ports."""

import asyncio

from posthouse import Producer, PushConsumer


async def main() -> None:
    arrived = asyncio.Event()

    async def handle(message) -> None:
        print(f"received {message.body.decode()!r} from {message.topic}, tag {message.tag!r}")
        arrived.set()

    async with Producer() as producer, PushConsumer("first-readers", subscribe={"first-mail": "*"}, handler=handle):
        receipt = await producer.send("first-mail", b"hello from the post house", tag="greeting")
        print(f"sent {receipt.message_id}: {receipt.status.name}, {receipt.queue} at {receipt.queue_offset}")
        await asyncio.wait_for(arrived.wait(), 30)


asyncio.run(main())
