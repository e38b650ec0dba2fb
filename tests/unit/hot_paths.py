"""hot_paths.py PATH COUNT - a hot path from Python, COUNT times: tools/hot-paths counts the
instructions of the extension in it. Without arguments: the paths.
"""

import os
import pickle
import sys

import flagstone

MESSAGE = bytes(24)


def main(path="", count="0"):
    with flagstone.open() as arena:
        cache = arena.cache("thing", shape=8, dtype="u8")
        held = cache.alloc()
        handle = held.handle
        alloc, get = cache.bind().alloc, arena.get
        paths = {
            "python-pair": alloc,
            "python-array": lambda: held.array,
            "python-get": lambda: get(handle),
            "python-alloc": lambda: by_size(100),
            "python-put": lambda: put(small),
            "python-put-array": lambda: put(array),
            "python-pickle": lambda: loads(dumps(sent)),
            "python-store-block": lambda: look("key"),
            "python-store-put": lambda: store_bytes("key", small),
            "python-channel": lambda: channel_put(MESSAGE) or channel_get(),
            "python-channel-many": lambda: put_many(many) and get_many(10),
            "python-topic": lambda: publish(MESSAGE) and next_one(),
            "python-lock": lambda: acquire() and release(),
        }
        dumps, loads, sent = pickle.dumps, pickle.loads, arena.put(bytes(16))
        store, channel, topic = arena.store("store"), arena.channel(), arena.topic("topic")
        store["key"] = MESSAGE
        look, store_bytes = store.block, store.put
        channel_put, channel_get = channel.put, channel.get
        many, put_many, get_many = [MESSAGE] * 10, channel.put_many, channel.get_many
        publish, next_one = topic.publish, topic.subscribe(slow="drop").get
        acquire, release = arena.lock("lock").acquire, arena.lock("lock").release
        by_size, put, small, array = arena.alloc, arena.put, bytes(16), held.array.copy()
        if not path:
            print(*paths)
            return
        call = paths[path]
        for _ in range(int(count)):
            call()
        sys.stdout.flush()
        os._exit(0)  # what the end costs is not of interest


if __name__ == "__main__":
    main(*sys.argv[1:])
