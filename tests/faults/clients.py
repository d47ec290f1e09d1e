"""Clients that nobody watches: they ask for changes until they are answered."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from faults import specimens
from faults.acks import AckLog, Item, Kind, Operation
from faults.calls import Calls

PATIENCE = 75.0  # seconds until a client stops waiting, long past every deadline
LONGEST_PAUSE = 1.0
COLLECTION = "faults"


@dataclass(frozen=True)
class Habits:
    """What clients do, and how much of it.

    Attributes:
        batch: fewest and most images in a request.
        weights: of new images, replaced ones, deletions by list, single deletions and
            changes of metadata.
        broken: the share of files that are no pictures.
        most: a client stops after so many acknowledged images.
        pause: seconds between two requests of a client.
    """

    batch: tuple[int, int] = (50, 200)
    weights: Sequence[int] = (60, 8, 6, 10, 16)
    broken: float = 0.002
    most: int = 10**9
    pause: float = 0.0


class Gone:
    """Ids whose deletion was acknowledged, until someone asks for them again."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, ids: Sequence[str]) -> None:
        """Their deletion was acknowledged just now."""
        with self._lock:
            self._since.update(dict.fromkeys(ids, time.monotonic()))

    def discard(self, ids: Sequence[str]) -> None:
        """They may be there again from now on."""
        with self._lock:
            for image_id in ids:
                self._since.pop(image_id, None)

    def before(self, moment: float) -> set[str]:
        """What was gone before that moment, and is gone still."""
        with self._lock:
            return {one for one, since in self._since.items() if since < moment}

    def newest(self) -> str | None:
        """What was deleted last."""
        with self._lock:
            return next(reversed(self._since), None)


class Client(threading.Thread):
    """One client with ids of its own, so that it asks one thing of an id at a time."""

    def __init__(
        self,
        name: str,
        seed: int,
        url: str,
        log: AckLog,
        calls: Calls,
        gone: Gone,
        habits: Habits,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._random = random.Random(f"{seed}/{name}")
        self._http = httpx.Client(base_url=url, timeout=PATIENCE)
        self._log = log
        self._calls = calls
        self._gone = gone
        self._habits = habits
        self._path = f"/v1/collections/{COLLECTION}/images"
        self._alive: list[str] = []
        self._dead: list[str] = []
        self._versions: dict[str, int] = {}
        self._asked = 0
        self._prefix = f"{seed}-{name}"
        self.acknowledged = 0
        self._stopping = threading.Event()
        self._leaving = threading.Event()

    def stop(self) -> None:
        """Begin nothing new; what was begun is asked for until it is answered."""
        self._stopping.set()

    def leave(self) -> None:
        """Stop asking, too."""
        self._stopping.set()
        self._leaving.set()

    def run(self) -> None:
        while not self._stopping.is_set() and self.acknowledged < self._habits.most:
            operation = self._next()
            if not self._insist(operation):
                return
            self._stopping.wait(self._habits.pause)

    # --- what to ask for -------------------------------------------------------------

    def _next(self) -> Operation:
        self._asked += 1
        choice = self._random.choices(range(5), self._habits.weights)[0]
        if len(self._alive) < 100 or choice == 0:
            return self._put(self._new(self._size()))
        if choice == 1:
            again = self._sample(self._alive, self._size() // 2)
            return self._put([*again, *self._sample(self._dead, 10)])
        if choice == 4:
            item = Item(self._random.choice(self._alive), tag=self._tag())
            return self._operation("patch", [item])
        count = 1 if choice == 3 else self._random.randint(5, 30)
        chosen = self._sample(self._alive, count)
        return self._operation("delete", [Item(one) for one in chosen])

    def _put(self, ids: Sequence[str]) -> Operation:
        items = []
        for image_id in ids:
            # Half of what is sent again has the same bytes, and other metadata.
            if image_id not in self._versions or self._random.random() < 0.5:
                self._versions[image_id] = self._versions.get(image_id, 0) + 1
            is_broken = self._random.random() < self._habits.broken
            version = self._versions[image_id]
            items.append(Item(image_id, version, self._tag(), is_broken))
        return self._operation("put", items)

    def _operation(self, kind: Kind, items: Sequence[Item]) -> Operation:
        return Operation(kind, f"{self._prefix}-{self._asked}", tuple(items))

    def _new(self, count: int) -> list[str]:
        known = len(self._versions)
        return [f"{self.name}-{known + n:06}" for n in range(count)]

    def _sample(self, ids: Sequence[str], most: int) -> list[str]:
        return self._random.sample(ids, min(most, len(ids)))

    def _size(self) -> int:
        return self._random.randint(*self._habits.batch)

    def _tag(self) -> int:
        return self._random.randrange(10**9)

    # --- asking ----------------------------------------------------------------------

    def _insist(self, operation: Operation) -> bool:
        """Ask until it is answered; false if the time to go came first."""
        ids = [item.id for item in operation.items]
        if operation.kind == "put":
            self._gone.discard(ids)
        pause = 0.05
        while not self._leaving.is_set():
            status = self._ask(operation)
            if 0 < status < 500 and status not in (409, 429):
                self._remember(operation, status)
                return True
            self._leaving.wait(pause * self._random.uniform(0.5, 1.5))
            pause = min(2 * pause, LONGEST_PAUSE)
        return False

    def _ask(self, operation: Operation) -> int:
        """The status of one try; 0 if there was no answer."""
        number = self._log.tried(operation)
        try:
            with self._calls.timed(operation.kind) as call:
                answer = self._send(operation)
                call.answered(answer)
        except httpx.ConnectError:
            self._log.noted("refused", number)
            return 0
        except httpx.TimeoutException:
            self._log.noted("late", number)
            return 0
        except httpx.TransportError as error:
            self._log.noted("unanswered", number, detail=type(error).__name__)
            return 0
        return self._note(operation, number, answer)

    def _note(self, operation: Operation, number: int, answer: httpx.Response) -> int:
        status = answer.status_code
        if answer.is_success or (status == 404 and operation.kind != "put"):
            job = answer.json().get("job", {}).get("id", "") if status != 404 else ""
            self._log.noted("ack", number, status=status, job=job)
        elif status < 500 or answer.json().get("code") == "storage_full":
            self._log.noted("refused", number, status=status, detail=answer.text[:200])
        else:  # the database may have died with the commit under way
            self._log.noted("unanswered", number, status=status)
        return status

    def _send(self, operation: Operation) -> httpx.Response:
        headers = {"Idempotency-Key": operation.key}
        first = operation.items[0]
        if operation.kind == "patch":
            body = {"metadata": {"tag": first.tag}}
            return self._http.patch(f"{self._path}/{first.id}", json=body)
        if operation.kind == "delete" and len(operation.items) == 1:
            return self._http.delete(f"{self._path}/{first.id}")
        if operation.kind == "delete":
            ids = [item.id for item in operation.items]
            return self._http.post(
                f"{self._path}/delete", json={"ids": ids}, headers=headers
            )
        return self._http.post(self._path, **upload(operation.items), headers=headers)

    def _remember(self, operation: Operation, status: int) -> None:
        ids = [item.id for item in operation.items if not item.is_broken]
        changed = set(ids)
        if operation.kind == "put" and status == 202:
            self.acknowledged += len(ids)
            self._dead = [one for one in self._dead if one not in changed]
            self._alive += sorted(changed.difference(self._alive))
        elif operation.kind == "delete":
            self._gone.add(ids)
            self._alive = [one for one in self._alive if one not in changed]
            self._dead += ids


def upload(items: Sequence[Item]) -> dict[str, Any]:
    """The form of a request that brings these images, as httpx takes it."""
    files, told = [], []
    for item in items:
        make = specimens.broken if item.is_broken else specimens.specimen
        files.append(("image", ("picture.png", make(item.id, item.version))))
        told.append({"id": item.id, "metadata": {"tag": item.tag}})
    return {"files": files, "data": {"items": json.dumps(told)}}
