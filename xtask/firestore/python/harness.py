"""Items of a list: each runs, prints one line, and says exactly what was wrong."""

import asyncio
import inspect
import os
import random
import sys
import threading
import time
import traceback

from google.cloud import firestore

PROJECT = os.environ.get("GCLOUD_PROJECT", "demo-test")
AGAINST = os.environ.get("WHIMBREL_FIRESTORE_AGAINST", "whimbrel")
client = firestore.Client(project=PROJECT)

_items = []
_run = "%06x" % random.randrange(1 << 24)
_names = 0


def item(name, hidane=None):
    """Something to prove; `hidane` says why the emulator, when it is the one that is tested, cannot do it."""

    def keep(prove):
        _items.append((name, prove, hidane))
        return prove

    return keep


def fresh_id(name="p"):
    global _names
    _names += 1
    return f"{name}-{_run}-{_names}"


def fresh(name="p"):
    """A collection that nobody used before."""
    return client.collection(fresh_id(name))


def equal(got, expected, what=""):
    assert got == expected, f"{what}\n    expected {expected!r}\n    got      {got!r}"


def fails(kind, work, *arguments, **named):
    """The call must end in this exception of the client's."""
    try:
        value = work(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, but it succeeded with {value!r}")


def ids(snapshots):
    return [snapshot.id for snapshot in snapshots]


class Watch:
    """The snapshots of a listener, one after another."""

    def __init__(self, target):
        self._seen = []
        self._more = threading.Condition()
        self._stop = target.on_snapshot(self._take)

    def _take(self, snapshots, changes, read_time):
        with self._more:
            self._seen.append((list(snapshots), list(changes), read_time))
            self._more.notify_all()

    def next(self, within_s=15):
        with self._more:
            if not self._more.wait_for(lambda: self._seen, within_s):
                raise AssertionError(f"no snapshot within {within_s} s")
            return self._seen.pop(0)

    def until(self, good, within_s=15):
        end = time.monotonic() + within_s
        while True:
            seen = self.next(max(end - time.monotonic(), 0.01))
            if good(seen[0]):
                return seen

    def stop(self):
        self._stop.unsubscribe()


def _prove(prove):
    if inspect.iscoroutinefunction(prove):
        asyncio.run(asyncio.wait_for(prove(), 60))
    else:
        prove()


def finish():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    failed = []
    ran = 0
    began = time.monotonic()
    for name, prove, hidane in _items:
        if wanted not in name:
            continue
        if hidane and AGAINST == "hidane":
            print(f"left    {name}: hidane {hidane}", flush=True)
            continue
        ran += 1
        start = time.monotonic()
        try:
            _prove(prove)
            print(f"ok      {name} ({(time.monotonic() - start) * 1000:.0f} ms)", flush=True)
        except Exception as error:
            failed.append(name)
            ours = [f for f in traceback.extract_tb(error.__traceback__) if "xtask/firestore" in f.filename]
            where = "".join(f"\n    {os.path.basename(f.filename)}:{f.lineno}: {f.line}" for f in ours[-3:])
            print(f"FAILED  {name}\n    {type(error).__name__}: {error}{where}", flush=True)
    print(f"\n{ran - len(failed)} of {ran} items hold ({time.monotonic() - began:.1f} s)")
    for name in failed:
        print(f"failed: {name}")
    sys.stdout.flush()
    # Listeners' threads would keep the process.
    os._exit(1 if failed or not ran else 0)
