"""Ties a suite to Locust: its options, the start and the end of a test, several processes, the verdict.

Works under plain `locust -f loadtests/steady.py`, with or without its web page; `loadtests.cli` takes the same path.
"""

import json
import sys
from pathlib import Path
from typing import Any

import gevent
import locust
import locust.stats
from locust.runners import MasterRunner, WorkerRunner

from loadtests import report, settings, slo, user
from loadtests.measurement import CRASHED, SAYS, UNREACHABLE, USAGE, Measurement
from loadtests.progress import Progress

MESSAGE = "cutover-part"
DEFAULT_RUN_S = 32
GRACE_S = 30

_OPTIONS = (
    settings.Option("--model", str, None, "the model to ask"),
    settings.Option("--model-version", str, "", "the version that must answer (default: any)"),
    settings.Option("--duration", settings.duration, None, "time to measure (default: --run-time less --warmup)"),
    *settings.SHARED,
    settings.Option("--slo", str, None, "service-level objective (TOML) that decides the exit code"),
    settings.Option("--report", str, None, "folder for report.html and report.json"),
    settings.Option("--measurement", str, None, "write what was measured to this file and judge nothing"),
)


def install(name: str) -> None:
    """Makes the Locust file that calls this the suite `name`."""
    suite = Suite(name)
    locust.events.init_command_line_parser.add_listener(suite.on_parser)
    locust.events.init.add_listener(suite.on_init)
    locust.events.test_start.add_listener(suite.on_test_start)
    locust.events.quitting.add_listener(suite.on_quitting)
    locust.stats.bucket_response_time = user.whole_microseconds


class Suite:
    """The listeners of one suite. In each process of a load one exists; the one that is not a worker judges."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.options: Any = None
        self.environment: Any = None
        self.objective: slo.Slo | None = None
        self.measurement = Measurement()
        self.parts = 0
        self.running = False

    def on_parser(self, parser: Any) -> None:
        """Adds our options and starts all users at once."""
        group = parser.add_argument_group("Load on an inference service")
        for option in _OPTIONS:
            group.add_argument(
                option.flag,
                env_var=f"CUTOVER_LOAD_{option.dest.upper()}",
                type=option.parse,
                default=option.default,
                choices=option.choices,
                help=option.help,
            )
        parser.set_defaults(num_users=20, spawn_rate=100, host="127.0.0.1:8001")

    def on_init(self, environment: Any, **_: Any) -> None:
        """Checks what can be checked before anything is sent. Runs once in every process, after any fork."""
        self.environment, self.options = environment, environment.parsed_options
        if not isinstance(environment.runner, MasterRunner):
            # Only now: gRPC may be used neither before a fork nor before it knows of gevent.
            from grpc.experimental.gevent import init_gevent

            init_gevent()
        if not isinstance(environment.runner, WorkerRunner):
            environment.runner.register_message(MESSAGE, self.on_part)
            # Workers get these options from here when the load starts.
            self.fix_duration()
            self.check()

    def fix_duration(self) -> None:
        """Leaves Locust's own clock only as the last resort: the schedule knows when it is over."""
        options = self.options
        if options.duration is None:
            options.duration = float(options.run_time or DEFAULT_RUN_S) - options.warmup
        options.run_time = options.warmup + options.duration + options.timeout + GRACE_S

    def check(self) -> None:
        """Ends the process when the options make no sense."""
        try:
            self.settings()
            self.objective = slo.load(Path(self.options.slo)) if self.options.slo else None
        except (settings.SettingsError, slo.SloError) as error:
            print(f"{SAYS}: {error}", file=sys.stderr)  # noqa: T201 - a command line
            sys.exit(USAGE)

    def settings(self) -> settings.Settings:
        """This run's settings. Raises SettingsError."""
        if not self.options.model:
            raise settings.SettingsError("name the model: --model NAME or the environment variable CUTOVER_LOAD_MODEL")
        return settings.from_options(
            self.options,
            self.name,
            target=(self.environment.host or self.options.host).rpartition("//")[2],
            version=self.options.model_version,
            users=self.environment.runner.target_user_count or self.options.num_users,
            duration_s=self.options.duration,
        )

    def on_test_start(self, environment: Any, **_: Any) -> None:
        """Aims and starts the clock; the process that only directs others waits for their parts."""
        self.measurement, self.parts, self.running = Measurement(), 0, True
        environment.cutover_drive = None
        if not isinstance(environment.runner, WorkerRunner):
            Progress(environment, self.options.warmup, self.options.warmup + self.options.duration).begin()
        if not isinstance(environment.runner, MasterRunner):
            self.start_driving()

    def start_driving(self) -> None:
        """Makes this process's share of the load, or delivers why it cannot."""
        from loadtests.client import AimError, TargetUnreachable
        from loadtests.drive import Drive
        from loadtests.tensors import RowsError

        runner = self.environment.runner
        index, count = (
            (runner.worker_index, self.options.processes or 0) if isinstance(runner, WorkerRunner) else (0, 1)
        )
        try:
            if index >= count:
                raise settings.SettingsError("spread a load with `--processes N` on one machine, not with --worker")
            self.environment.cutover_drive = Drive(self.settings(), index, count)
        except TargetUnreachable as error:
            self.deliver(Measurement(error=str(error), exit_code=UNREACHABLE))
        except (AimError, RowsError, settings.SettingsError) as error:
            self.deliver(Measurement(error=str(error), exit_code=USAGE))
        except Exception as error:  # noqa: BLE001 - Locust would log it and go on with users that have nothing to do
            self.deliver(Measurement(error=f"{type(error).__name__}: {error}", exit_code=CRASHED))
        else:
            self.environment.cutover_drive.begin()
            gevent.spawn(self.wait_for_the_end, self.environment.cutover_drive)

    def wait_for_the_end(self, drive: Any) -> None:
        """Delivers what this process measured."""
        drive.finish()
        self.deliver(drive.measurement())
        drive.close()

    def deliver(self, part: Measurement) -> None:
        """To the process that judges, which may be this one."""
        self.environment.runner.send_message(MESSAGE, json.dumps(part.to_json()))

    def on_part(self, environment: Any, msg: Any, **_: Any) -> None:
        """Concludes when all parts are there or one has failed."""
        if not self.running:
            return
        self.measurement.merge(Measurement.from_json(json.loads(msg.data)))
        self.parts += 1
        expected = self.options.expect_workers if isinstance(environment.runner, MasterRunner) else 1
        if self.measurement.error or self.parts >= expected:
            self.running = False
            environment.process_exit_code = self.conclude()
            gevent.spawn(environment.runner.stop if environment.web_ui else environment.runner.quit)

    def conclude(self) -> int:
        """Writes the bare measurement, or judges it; the exit code."""
        if self.options.measurement:
            Path(self.options.measurement).write_text(json.dumps(self.measurement.to_json()), encoding="utf-8")
            return self.measurement.exit_code
        if self.measurement.error:
            print(f"{SAYS}: {self.measurement.error}", file=sys.stderr)  # noqa: T201 - a command line
            return self.measurement.exit_code
        folder = Path(self.options.report) if self.options.report else None
        return report.conclude(self.measurement, self.objective, self.options.slo, folder)

    def on_quitting(self, environment: Any, **_: Any) -> None:
        """An end before the end of the schedule is an interruption: there is no verdict."""
        if self.running and not isinstance(environment.runner, WorkerRunner):
            environment.process_exit_code = 130
        drive = getattr(environment, "cutover_drive", None)
        if drive is not None:
            drive.close()
