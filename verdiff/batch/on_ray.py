"""A batch is run on a Ray cluster: one worker a device, and whatever becomes of a worker, each scan has one row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from verdiff.batch.dispatch import Assigned, Dispatch
from verdiff.batch.ledger import Ledger, ledger
from verdiff.batch.planning import Batch, BatchTask
from verdiff.batch.ray_cluster import ClusterDevice, cluster, devices_of
from verdiff.batch.rows import Row, row_of_error
from verdiff.batch.worker import CALLS, Outcome, Ready, Worker, WorkerPlan, elsewhere, plan_elsewhere
from verdiff.errors import OutputError, ServiceError, VerdiffError

# How often the clock is looked at.
_LOOK_SECONDS = 1.0
# At the end: what writing a mask may take.
_GRACE_SECONDS = 60.0
# A device whose workers are lost so often in a row, without one scan done, is left out.
_LOSSES = 4
# A device whose worker takes longer to come up is not waited for: on a shared cluster another job may have it.
_LOADING_SECONDS = 180.0


@dataclass(eq=False)
class _Post:
    """A device, its worker, and the answers that are on their way."""

    device: ClusterDevice
    actor: Any
    loading: Any
    ready: bool = False
    losses: int = 0
    answers: dict[Any, Assigned] = field(default_factory=dict)
    begun: float = field(default_factory=monotonic)


def _expected(posts: Sequence[_Post], now: float) -> list[str]:
    """The devices that can be counted on: their workers are up, or have not been coming up for long."""
    return [post.device.name for post in posts if post.ready or now - post.begun < _LOADING_SECONDS]


def run_on_ray(
    batch: Batch,
    plan: WorkerPlan,
    address: str,
    *,
    on_case: Callable[[Row], None],
    on_note: Callable[[str], None] | None = None,
    patience: float | None = None,
    kind: type[Worker] = Worker,
) -> list[Row]:
    """Segment what is to do on the devices of a cluster, and write the summary; see :func:`verdiff.batch.run_batch`.

    The workers read the scans and write the files themselves, so every machine must see them by the same paths. A
    worker has two scans at most. One that is lost (killed, out of memory, its machine gone) is replaced, and what it
    had is tried again, unless its files are there; a scan that was in three workers when they were lost has failed.

    Args:
        batch: What :func:`verdiff.batch.plan_batch` made of the list.
        plan: What workers load.
        address: Where the cluster is: ``"local"`` starts one here, ``HOST:PORT`` or ``"auto"`` joins one.
        on_case: Called with each row, in the caller's thread: first those of the list that are bad or done.
        on_note: Called with what happened to workers; None is nobody.
        patience: Seconds that a worker may have one scan before it is ended and the scan tried again; None is for ever.
        kind: The class of the workers.

    Raises:
        BackendError: Ray is not installed, or the cluster has no such device.
        ServiceError: There is no cluster, or every worker was lost.
        OutputError: Another batch has the folder, the disk is full or gone, or the summary cannot be written.
        VerdiffError: The model cannot be loaded anywhere.
    """
    with ledger(batch, on_case) as kept:
        if batch.to_do:
            with cluster(address) as ray:
                _Run(ray, batch, plan, kept, on_note, patience, kind).run()
    return kept.rows


class _Run:
    def __init__(
        self,
        ray: Any,
        batch: Batch,
        plan: WorkerPlan,
        kept: Ledger,
        on_note: Callable[[str], None] | None,
        patience: float | None,
        kind: type[Worker],
    ) -> None:
        self._ray, self._plan, self._kept, self._note = ray, plan_elsewhere(plan), kept, on_note or (lambda text: None)
        self._patience, self._kind = patience, kind
        self._dispatch = Dispatch(batch.to_do)
        self._posts: list[_Post] = []
        self._failure: VerdiffError | None = None
        self._ending = False

    def run(self) -> None:
        """Until every task has its row, or the batch cannot go on."""
        plan = self._plan
        listed = devices_of(self._ray.nodes(), plan.options.device, plan.options.threads)
        try:
            for device in listed[: self._dispatch.waiting]:
                self._posts.append(self._man(device))
            while self._dispatch.open:
                if not self._posts:
                    raise self._failure or _all_lost()
                self._hand_out()
                self._hear()
                self._end_overdue()
        except BaseException:
            self._wind_up()
            raise

    def _man(self, device: ClusterDevice) -> _Post:
        """Start a worker on a device."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = (
            self._ray.remote(self._kind)
            .options(
                **device.resources,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=CALLS,
                scheduling_strategy=NodeAffinitySchedulingStrategy(device.node, soft=False),
            )
            .remote(replace(self._plan, threads=device.threads))
        )
        return _Post(device, actor, actor.load.remote())

    def _hand_out(self) -> None:
        names = _expected(self._posts, monotonic())
        for post in self._posts:
            while post.ready and (given := self._dispatch.next(post.device.name, monotonic(), names)) is not None:
                post.answers[post.actor.do.remote(elsewhere(given.task), bool(given.lost))] = given

    def _hear(self) -> None:
        """Wait for an answer, and take those that have come."""
        waited = {post.loading: post for post in self._posts if not post.ready}
        waited |= {answer: post for post in self._posts for answer in post.answers}
        come, _ = self._ray.wait(list(waited), num_returns=1, timeout=_LOOK_SECONDS)
        for answer in come:
            post = waited[answer]
            if post not in self._posts or not (answer in post.answers or not post.ready):
                # Its worker was lost by an answer before.
                continue
            try:
                said = self._ray.get(answer)
            except self._ray.exceptions.RayError as error:
                self._lose(post, error)
                continue
            if answer == post.loading:
                self._welcome(post, said)
            else:
                self._take(post, post.answers.pop(answer), said)

    def _welcome(self, post: _Post, said: Ready | VerdiffError) -> None:
        if isinstance(said, Ready):
            post.ready = True
            return
        self._failure = self._failure or said
        self._leave_out(post, f"its model cannot be loaded: {said.found}")

    def _take(self, post: _Post, given: Assigned, outcome: Outcome) -> None:
        post.losses = 0
        self._dispatch.ended(post.device.name, given, monotonic())
        if outcome.row is not None:
            self._kept.tell(_named(outcome.row, given.task))
        if outcome.ends is not None:
            raise outcome.ends

    def _lose(self, post: _Post, error: Exception) -> None:
        """A worker is gone: another takes its place."""
        why = _why(error)
        self._ray.kill(post.actor)
        post.losses += 1
        for given in self._dispatch.lost(post.device.name):
            self._kept.tell(_given_up(given.task, len(given.lost), why))
        if self._ending:
            self._posts.remove(post)
        elif post.losses >= _LOSSES and (len(self._posts) > 1 or not post.ready):
            self._leave_out(post, f"{post.losses} workers were lost in a row: {why}")
        elif self._dispatch.waiting:
            self._note(f"a worker was lost ({post.device.name}): {why}; another starts, and its scans are tried again")
            self._posts[self._posts.index(post)] = fresh = self._man(post.device)
            fresh.losses = post.losses
        else:
            self._posts.remove(post)

    def _leave_out(self, post: _Post, why: str) -> None:
        self._note(f"left out ({post.device.name}): {why}")
        self._posts.remove(post)
        self._ray.kill(post.actor)

    def _end_overdue(self) -> None:
        if self._patience is None:
            return
        late = self._dispatch.overdue(monotonic(), self._patience)
        for post in [each for each in self._posts if each.device.name in late]:
            self._lose(post, TimeoutError(f"it had a scan for more than {self._patience:g} s"))

    def _wind_up(self) -> None:
        """Let the workers write what has a mask, and tell of it."""
        self._ending = True
        self._dispatch.drop_waiting()
        for post in self._posts:
            post.actor.stop.remote()
        until = monotonic() + _GRACE_SECONDS
        self._posts = [post for post in self._posts if post.answers]
        for post in self._posts:
            post.ready = True
        while self._dispatch.in_work and self._posts and monotonic() < until:
            # A disk that is full is so for the others too.
            with suppress(OutputError):
                self._hear()
            self._end_overdue()
            self._posts = [post for post in self._posts if post.answers]


def _named(row: Row, task: BatchTask) -> Row:
    """A worker's row with the scan as the user named it."""
    return replace(row, scan=str(task.case.scan))


def _given_up(task: BatchTask, tries: int, why: str) -> Row:
    lost = ServiceError(
        f"{tries} workers were lost while they had it, the last one since {why}",
        "a scan that a worker has room and time for",
        "see whether it is larger than the others; the same command tries it again",
    )
    return row_of_error(task.name, str(task.case.scan), lost)


def _why(error: Exception) -> str:
    told = " ".join(str(error).split())
    if type(error).__name__ == "OutOfMemoryError" or "OOM" in told:
        return "its machine ran out of memory"
    if isinstance(error, TimeoutError):
        return told
    return "its process ended" if "died" in told or "killed" in told else told


def _all_lost() -> ServiceError:
    return ServiceError(
        "every worker was lost, and those that took their places",
        "a worker that does its scans",
        "look at Ray's logs on the workers' machines; the same command goes on with the scans that are left",
    )
