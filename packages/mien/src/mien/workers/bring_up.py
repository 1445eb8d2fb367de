"""Bringing up a worker in its slot: wait for evicted predecessors, environment, process, import, setup."""

import asyncio

from mien.apps.environment import Environment, EnvironmentSpec
from mien.apps.environments import Environments
from mien.apps.manifest import Variant
from mien.apps.process import ProcessLimits
from mien.apps.record import Deployed
from mien.errors import InvalidField, Unavailable
from mien.metrics import Metrics
from mien.settings import Workers
from mien.workers.crashes import CrashBreaker
from mien.workers.job import Job
from mien.workers.listener import Listener, PoolListener, Stage, WorkerGone
from mien.workers.placement import gpu_variables
from mien.workers.run_dir import WorkerRunDir
from mien.workers.slots import WorkerKey, WorkerSlot
from mien.workers.worker import StartWorker, Worker, WorkerSpec


class BringUp:
    """Starts workers for a pool, and counts crashes."""

    def __init__(
        self,
        settings: Workers,
        environments: Environments,
        run_dir: WorkerRunDir,
        start_worker: StartWorker,
        breaker: CrashBreaker,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._environments = environments
        self._run_dir = run_dir
        self._start_worker = start_worker
        self._breaker = breaker
        self._metrics = metrics
        self._made: dict[tuple[str, str], Environment] = {}

    def has_environment(self, key: WorkerKey) -> bool:
        """Whether this server process has already used the environment. Does no I/O: called for every queued task."""
        return (key.version, key.variant) in self._made

    async def start(self, slot: WorkerSlot, job: Job, listener: PoolListener) -> Worker:
        """Start a worker and run its setup for the job. `slot.worker` is set as soon as the app is imported.

        Raises AppBroken while the version is in backoff, AppError, WorkerGone, MienError.
        """
        # Checked first, so that a version in a crash loop costs neither a build nor a process.
        self._breaker.check(job.deployed)
        variant = self._variant(job)
        variables = self._variables(job.deployed, variant)
        listener.stage(Stage.PREPARING)
        for predecessor in slot.predecessors:
            if predecessor.worker is not None:
                await predecessor.worker.gone.wait()
        slot.predecessors.clear()
        environment = await self._environment(job, variant, listener)
        listener.stage(Stage.SERVING)
        spec = WorkerSpec(
            name=slot.name,
            environment=environment,
            content=job.deployed.content,
            folder=self._run_dir.folder / slot.name,
            limits=ProcessLimits(slot.grant.need.memory),
            variables={**variables, **gpu_variables(slot.grant), "WORKER_ID": slot.name},
            start_seconds=self._settings.app_start_seconds,
            setup_seconds=self._settings.app_setup_seconds,
            family=self._run_dir.family,
            input_dirs=self._settings.app_input_dirs,
        )
        return await self._counted(slot, spec, job, listener)

    async def _counted(self, slot: WorkerSlot, spec: WorkerSpec, job: Job, listener: PoolListener) -> Worker:
        outcome = "failed"
        try:
            slot.worker = worker = await self._start_worker(spec, listener)
            await self._set_up(worker, job, listener)
            outcome = "ready"
        except WorkerGone as gone:
            self.note_end(job.deployed, gone)
            raise
        except asyncio.CancelledError:
            outcome = "stopped"
            raise
        finally:
            self._metrics.worker_starts.labels(job.deployed.version.app, outcome).inc()
        return worker

    async def _set_up(self, worker: Worker, job: Job, listener: PoolListener) -> None:
        listener.stage(Stage.SETTING_UP)
        try:
            setup = job.setup
            if setup and job.localise is not None:
                setup = await job.localise(setup, worker.spec.files_of(None))
            seconds = await worker.setup(setup, job.metadata, listener)
        except BaseException:
            await worker.kill_and_wait()
            raise
        self._metrics.worker_setup_seconds.labels(job.deployed.version.app).observe(seconds)

    def note_end(self, deployed: Deployed, gone: WorkerGone) -> None:
        """Record the end of a worker; it is a crash unless this server requested it."""
        if not gone.stop_requested:
            self._breaker.crashed(deployed, gone.reason)
            self._metrics.worker_crashes.labels(deployed.version.app, gone.kind).inc()

    async def _environment(self, job: Job, variant: Variant, listener: Listener) -> Environment:
        key = (job.deployed.version.version, job.variant)
        environment = self._made.get(key)
        if environment is None or not environment.python.exists():
            environment = await self._environments.ensure(EnvironmentSpec.of(job.deployed, variant), listener.log)
            self._made[key] = environment
        return environment

    def _variant(self, job: Job) -> Variant:
        version = job.deployed.version
        variant = version.manifest.variant(job.variant)
        if variant is None:
            raise InvalidField(f"{version.app} has no variant {job.variant}; it has {', '.join(version.variants)}")
        return variant

    def _variables(self, deployed: Deployed, variant: Variant) -> dict[str, str]:
        version = deployed.version
        found = {"APP_ID": version.app, "APP_VERSION_ID": version.version, **variant.env}
        for secret in version.manifest.secrets:
            value = self._settings.app_secrets.get(secret.key)
            if value is not None:
                found[secret.key] = value.get_secret_value()
            elif not secret.optional:
                raise Unavailable(
                    f"{version.app} needs the secret {secret.key}; the operator sets it in MIEN_APP_SECRETS"
                )
        return found
