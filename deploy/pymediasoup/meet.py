"""Three clients of pymediasoup join a room in version 3's dialect of mediasoup-demo, receive each other and write to each other.

    meet.py ENGINE URL

ENGINE is aiortc, or wrtc: libwebrtc in the place of aiortc. URL is a node's, ws://HOST:PORT. The exit code is 0 when
everybody received audio, video and messages of everybody else.
"""

import asyncio
import importlib
import json
import os
import pkgutil
import random
import sys

ENGINE, URL = sys.argv[1:]

if ENGINE == "wrtc":
    import webrtc.aiortc

    # pymediasoup imports aiortc by name.
    sys.modules["aiortc"] = webrtc.aiortc
    for module in pkgutil.walk_packages(webrtc.aiortc.__path__, "webrtc.aiortc."):
        sys.modules[module.name.removeprefix("webrtc.")] = importlib.import_module(module.name)

import websockets
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from pymediasoup import AiortcHandler, Device
from pymediasoup.models.transport import DtlsParameters, IceCandidate, IceParameters
from pymediasoup.rtp_parameters import RtpCapabilities, RtpParameters
from pymediasoup.sctp_parameters import SctpParameters, SctpStreamParameters

CLIENTS = 3

# Audio or video frames of a peer that show that its stream flows.
FRAMES = 50

# What each writes. The last two take many packets each.
MESSAGES = ["text, 👋", b"\x00binary\xff", "", b"", "long " * 20 * 1024, bytes(100 * 1024)]

WITHIN_S = 60


def plain(model):
    return model.model_dump(mode="json", exclude_none=True)


class Client:
    def __init__(self, name):
        self.name = name
        self.answers = {}
        self.frames = {}
        self.messages = {}
        self.tasks = []
        # pymediasoup negotiates one consumer at a time.
        self.negotiating = asyncio.Lock()

    async def join(self):
        self.socket = await websockets.connect(f"{URL}/?roomId={ENGINE}&peerId={self.name}", subprotocols=["protoo"])
        self.start(self.read())
        self.device = Device(AiortcHandler.createFactory(tracks=[AudioStreamTrack(), VideoStreamTrack()]))
        await self.device.load(RtpCapabilities(**await self.request("getRouterRtpCapabilities")))
        send = await self.create_transport(producing=True)
        self.receive = await self.create_transport(producing=False)
        device = {"flag": "python", "name": "pymediasoup", "version": "1"}
        capabilities = {
            "rtpCapabilities": plain(self.device.rtpCapabilities),
            "sctpCapabilities": plain(self.device.sctpCapabilities),
        }
        await self.request("join", displayName=self.name, device=device, **capabilities)
        for track in (AudioStreamTrack(), VideoStreamTrack()):
            await send.produce(track=track, appData={})
        self.chat = await send.produceData(label="chat", ordered=True)

    def start(self, coroutine):
        self.tasks.append(asyncio.create_task(coroutine))

    async def request(self, method, **data):
        number = random.randrange(10_000_000)
        self.answers[number] = asyncio.get_running_loop().create_future()
        await self.send(request=True, id=number, method=method, data=data)
        return await self.answers[number]

    async def send(self, **message):
        await self.socket.send(json.dumps(message))

    async def read(self):
        async for text in self.socket:
            message = json.loads(text)
            if message.get("response") and message.get("ok"):
                self.answers.pop(message["id"]).set_result(message["data"])
            elif message.get("response"):
                self.answers.pop(message["id"]).set_exception(RuntimeError(text))
            elif message.get("method") == "newConsumer":
                self.start(self.consume(message["id"], message["data"]))
            elif message.get("method") == "newDataConsumer":
                self.start(self.consume_data(message["id"], message["data"]))

    async def create_transport(self, producing):
        wanted = {"producing": producing, "consuming": not producing, "sctpCapabilities": plain(self.device.sctpCapabilities)}
        answer = await self.request("createWebRtcTransport", forceTcp=False, **wanted)
        create = self.device.createSendTransport if producing else self.device.createRecvTransport
        transport = create(
            id=answer["id"],
            iceParameters=IceParameters(**answer["iceParameters"]),
            iceCandidates=[IceCandidate(**candidate) for candidate in answer["iceCandidates"]],
            dtlsParameters=DtlsParameters(**answer["dtlsParameters"]),
            sctpParameters=SctpParameters(**answer["sctpParameters"]),
        )

        @transport.on("connect")
        async def on_connect(dtlsParameters):
            await self.request("connectWebRtcTransport", transportId=transport.id, dtlsParameters=plain(dtlsParameters))

        @transport.on("produce")
        async def on_produce(kind, rtpParameters, appData):
            parameters = {"kind": kind, "rtpParameters": plain(rtpParameters), "appData": appData}
            return (await self.request("produce", transportId=transport.id, **parameters))["id"]

        @transport.on("producedata")
        async def on_produce_data(sctpStreamParameters, label, protocol, appData):
            parameters = {"sctpStreamParameters": plain(sctpStreamParameters), "label": label, "appData": appData}
            return (await self.request("produceData", transportId=transport.id, **parameters))["id"]

        return transport

    async def consume(self, question, data):
        parameters = RtpParameters(**data["rtpParameters"])
        async with self.negotiating:
            consumer = await self.receive.consume(data["id"], data["producerId"], data["kind"], parameters)
        await self.send(response=True, id=question, ok=True, data={})
        stream = (data["peerId"], data["kind"])
        self.frames[stream] = 0
        while True:
            await consumer.track.recv()
            self.frames[stream] += 1

    async def consume_data(self, question, data):
        parameters = SctpStreamParameters(**data["sctpStreamParameters"])
        async with self.negotiating:
            consumer = await self.receive.consumeData(data["id"], data["dataProducerId"], parameters, data["label"])
        consumer.on("message", self.messages.setdefault(data["peerId"], []).append)
        await self.send(response=True, id=question, ok=True, data={})

    def chats(self):
        return self.chat.readyState == "open" and len(self.messages) == CLIENTS - 1

    def write(self):
        for message in MESSAGES:
            self.chat.send(message)

    def receives_all(self):
        streams, writers = self.frames.values(), self.messages.values()
        seen = len(streams) == 2 * (CLIENTS - 1) and all(frames >= FRAMES for frames in streams)
        return seen and all(messages == MESSAGES for messages in writers)


async def until(clients, holds):
    while not all(holds(client) for client in clients):
        for task in (task for client in clients for task in client.tasks if task.done()):
            task.result()
        await asyncio.sleep(0.1)


async def main():
    clients = [Client(f"{ENGINE}-{number}") for number in range(CLIENTS)]
    try:
        async with asyncio.timeout(WITHIN_S):
            for client in clients:
                await client.join()
            await until(clients, Client.chats)
            for client in clients:
                client.write()
            await until(clients, Client.receives_all)
    finally:
        for client in clients:
            print(client.name, client.frames, {writer: len(messages) for writer, messages in client.messages.items()})
    # Engines that are closed one by one complain of each other.
    sys.stdout.flush()
    os._exit(0)


asyncio.run(main())
