"""The guards, each with the lines that break it and the checks that must notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Check = tuple[str, ...]


@dataclass(frozen=True)
class Mutation:
    """One guard broken.

    Attributes:
        name: what is broken, in words.
        edits: file below ``services/lookalike``, the lines there, and what they become.
        checks: modules to run with their arguments; at least one has to fail.
    """

    name: str
    edits: Sequence[tuple[str, str, str]]
    checks: Sequence[Check]


def pytests(*paths: str, word: str = "") -> Check:
    """Some of the tests; the first that fails ends it."""
    chosen = ("-k", word) if word else ()
    places = tuple(f"tests/{path}" for path in paths)
    return ("pytest", "-x", "-q", "-p", "no:cacheprovider", *chosen, *places)


def walk(*failpoints: str) -> Check:
    """A walk over these failpoints, or over all of them."""
    chosen = ("--failpoints", *failpoints) if failpoints else ()
    return ("faults", "--only", "walk", "--seed", "1", *chosen)


def scenario(name: str, scale: float = 0.2) -> Check:
    """One scenario."""
    return ("faults", "--only", name, "--seed", "1", "--scale", str(scale))


LEDGER = pytests(
    "contract/test_ledger.py",
    "contract/test_ledger_work.py",
    "contract/test_ledger_races.py",
    word="sqlite",
)
REQUESTS = pytests("contract/test_ledger_requests.py", word="sqlite")
FAIRNESS = pytests("contract/test_ledger_fairness.py", word="sqlite")
RACES = scenario("T27-model", 0.3)

_LEDGER = "backends/ledger.py"
_CLAIMS = "backends/ledger_claims.py"
_ENDS = "backends/ledger_ends.py"
_RECORDING = "backends/ledger_recording.py"
_REPAIRS = "backends/ledger_repairs.py"

ACCEPTING = """\
        with self._database.writing() as connection:
            recording = Recording(self._database, connection, collection)
            record = partial(recording.accept, images, failures, job, more=more)
"""
ACCEPTED = """\
            failpoint("accept.recorded")
        failpoint("accept.committed")
        return accepted

    def update_metadata(
"""
FINISHING = """\
            ended = ends.finish(connection, results, self._database.now(connection))
            failpoint("finish.counted")
        failpoint("finish.committed")
        return ended
"""

MUTATIONS = (
    Mutation(
        "the answer, and the ring, come before the commit",
        [
            (
                _LEDGER,
                ACCEPTING,
                """\
        import threading
        from contextlib import ExitStack
        stack = ExitStack()
        connection = stack.enter_context(self._database.writing())
        if True:
            recording = Recording(self._database, connection, collection)
            record = partial(recording.accept, images, failures, job, more=more)
""",
            ),
            (
                _LEDGER,
                ACCEPTED,
                """\
            failpoint("accept.recorded")
        threading.Timer(0.5, stack.close).start()
        failpoint("accept.committed")
        return accepted

    def update_metadata(
""",
            ),
        ],
        [walk(), LEDGER],
    ),
    Mutation(
        "a commit does not wait for the disk",
        [
            (
                _LEDGER,
                ACCEPTING,
                ACCEPTING.replace("writing()", "writing(durable=False)"),
            )
        ],
        [scenario("T9")],
    ),
    Mutation(
        "rows are recorded before their originals are kept",
        [
            (
                "ingest.py",
                """\
        self._blobs.keep([entry.staged for entry in self._checked])
        failpoint("accept.blobs_kept")
        accepted = self._record(more=more)
""",
                """\
        accepted = self._record(more=more)
        self._blobs.keep([entry.staged for entry in self._checked])
        failpoint("accept.blobs_kept")
""",
            )
        ],
        [walk("blob.written", "blob.synced"), scenario("T9")],
    ),
    Mutation(
        "originals are not synced",
        [
            (
                "backends/blobs.py",
                "                self._sync_one(file.path)\n",
                "                pass\n",
            )
        ],
        [pytests("unit/test_blobs.py"), scenario("T9")],
    ),
    Mutation(
        "the folder of an original is not synced",
        [
            (
                "backends/blobs.py",
                "                self._sync_one(folder)\n",
                "                pass\n",
            )
        ],
        [pytests("unit/test_blobs.py"), scenario("T9")],
    ),
    Mutation(
        "work is counted in a transaction of its own",
        [
            (
                _ENDS,
                "    return jobs.count(connection, counted, now)\n",
                "    return counted  # type: ignore\n",
            ),
            (
                _LEDGER,
                FINISHING,
                """\
            counted = ends.finish(connection, results, self._database.now(connection))
        failpoint("finish.counted")
        with self._database.writing() as connection:
            ended = jobs.count(connection, counted, self._database.now(connection))
        failpoint("finish.committed")
        return ended
""",
            ),
        ],
        [walk("finish.counted")],
    ),
    Mutation(
        "work ends whether it is pending or not",
        [
            (
                _ENDS,
                "    rows = lock_pending(connection, told, *conditions)\n",
                "    rows = known\n",
            )
        ],
        [LEDGER, walk("finish.committed", "finish.counted")],
    ),
    Mutation(
        "work is claimed though another holds it",
        [
            (
                _CLAIMS,
                "    is_free = (work.c.lease_until <= now, work.c.not_before <= now,"
                " ~is_spent)\n",
                "    is_free = (work.c.not_before <= now, ~is_spent)\n",
            )
        ],
        [LEDGER],
    ),
    Mutation(
        "attempts are not counted before the work",
        [
            (
                _CLAIMS,
                "                attempts=work.c.attempts + 1,\n",
                "",
            )
        ],
        [LEDGER],
    ),
    Mutation(
        "crashing chunks are not split",
        [
            (
                "backends/ledger_tables.py",
                "SUSPECT_ATTEMPTS = 2",
                "SUSPECT_ATTEMPTS = 99",
            )
        ],
        [LEDGER],
    ),
    Mutation(
        "work given back uses up an attempt",
        [(_CLAIMS, "attempts=work.c.attempts - 1", "attempts=work.c.attempts")],
        [LEDGER],
    ),
    Mutation(
        "work out of attempts is never ended",
        [(_LEDGER, "            ends.give_up(connection, now)\n", "")],
        [LEDGER],
    ),
    Mutation(
        "hits are not verified against the life of the image",
        [
            (
                "backends/ledger_catalogue.py",
                "                if is_mine and gens[row.key] >= row.born_gen:\n",
                "                if is_mine:\n",
            )
        ],
        [LEDGER],
    ),
    Mutation(
        "hits of deleted images are not verified at all",
        [
            (
                "backends/ledger_catalogue.py",
                "    \"WHERE want = 'present' AND key IN \"\n",
                '    "WHERE key IN "\n',
            )
        ],
        [RACES, LEDGER],
    ),
    Mutation(
        "a deletion does not raise the generation",
        [
            (
                _RECORDING,
                """\
                "gen": gen,
                "want": "absent",
""",
                """\
                "want": "absent",
""",
            )
        ],
        [RACES, LEDGER],
    ),
    Mutation(
        "an image taken in again keeps the birth of its old life",
        [
            (
                _RECORDING,
                '"born_gen": row.born_gen if lives else gen,',
                '"born_gen": row.born_gen,',
            )
        ],
        [LEDGER],
    ),
    Mutation(
        "what was overtaken is written all the same",
        [
            (
                _CLAIMS,
                "    current = [row for row in rows if not is_overtaken(row, heads)]\n",
                "    current, overtaken = list(rows), []\n",
            )
        ],
        [LEDGER, RACES],
    ),
    Mutation(
        "late writes are not repaired",
        [
            (
                _ENDS,
                "    repairs.repair_late(connection, known, heads, late, doubted)\n",
                "",
            )
        ],
        [RACES, LEDGER],
    ),
    Mutation(
        "a late write by work that others ended is not repaired",
        [
            (
                _REPAIRS,
                "    for row in ended_before:\n",
                "    for row in []:\n",
            )
        ],
        [RACES, LEDGER],
    ),
    Mutation(
        "stored vectors are reused while another is being written",
        [
            (
                _RECORDING,
                "    return Operation.META if is_indexed and not is_waiting"
                " else Operation.PUT\n",
                "    return Operation.META\n",
            )
        ],
        [RACES, LEDGER],
    ),
    Mutation(
        "a stored vector is reused whatever its generation",
        [
            (
                "ingest.py",
                "            if held is None or held.gen != work.indexed_gen:\n",
                "            if held is None:\n",
            )
        ],
        [pytests("unit/test_ingest.py")],
    ),
    Mutation(
        "pending work is not rung for again",
        [
            (
                "ingest.py",
                "    work = ledger.due(2_000)\n",
                "    work = []\n",
            )
        ],
        [pytests("unit/test_ingest.py"), walk("claim.committed")],
    ),
    Mutation(
        "a key is noted in a transaction of its own",
        [
            (
                _LEDGER,
                "        keyed.remember(accepted.job.id, is_first=job is None,"
                " more=more)\n        return accepted\n",
                "        self._late = (accepted.job.id, job is None, more, idempotency)"
                "\n        return accepted\n",
            ),
            (
                _LEDGER,
                ACCEPTED,
                """\
            failpoint("accept.recorded")
        failpoint("accept.committed")
        if later := self.__dict__.pop("_late", None):
            with self._database.writing() as connection:
                recording = Recording(self._database, connection, collection)
                keyed = Keyed(recording, later[3], 0.0)
                keyed._hold()
                keyed.remember(later[0], is_first=later[1], more=later[2])
        return accepted

    def update_metadata(
""",
            ),
        ],
        [walk("accept.committed"), REQUESTS],
    ),
    Mutation(
        "a repeated request is recorded again",
        [
            (
                _LEDGER,
                "        if earlier is not None:\n"
                "            return Accepted(to_job(earlier), replayed=True)\n",
                "",
            )
        ],
        [REQUESTS, walk("accept.rung")],
    ),
    Mutation(
        "one team's flood goes before what another sent",
        [
            (
                _CLAIMS,
                "    rows = own + lock_pending(connection, next_ids, *is_free,"
                " skip_locked=True)\n",
                "    rows = own\n",
            )
        ],
        [FAIRNESS],
    ),
    Mutation(
        "nothing is refused, however much waits",
        [
            (
                "admission.py",
                "        self._check_room()\n        self.check_backlog(team)\n",
                "",
            )
        ],
        [pytests("unit/test_admission.py")],
    ),
    Mutation(
        "running out of memory ends the worker",
        [
            (
                "worker/child.py",
                "        except MemoryError:\n            # Celery",
                "        except ZeroDivisionError:\n            # Celery",
            )
        ],
        [pytests("integration/test_worker.py", word="memory")],
    ),
)
