# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy in a thread that delays what goes up: each piece waits a drawn time, order kept."""
import asyncio
import random
import threading


class DelayProxy:
    def __init__(self, target_port, seed, mean_s=0.03):
        self.target_port, self.random, self.mean_s = target_port, random.Random(seed), mean_s
        self.port, self.loop = 0, asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None) # cancelled at the end
        started = threading.Event()
        self.thread = threading.Thread(target=self._main, args=(started,), daemon=True)
        self.thread.start()
        started.wait()

    def _main(self, started):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._client, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for t in tasks:
            t.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    async def _pump(self, reader, writer, delayed):
        try:
            while True:
                data = await reader.read(65536)
                if not data:
                    break
                if delayed:
                    await asyncio.sleep(self.random.expovariate(1 / self.mean_s))
                writer.write(data)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            if not self.loop.is_closed():
                writer.close()

    async def _client(self, reader, writer):
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, up_writer, True),
                             self._pump(up_reader, writer, False))

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
