"""TraceSetting, and what becomes of the traces that proxies report."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

import structlog

from gateway.controlplane.tasks import Tasks
from gateway.controlplane.triton.requests import read
from gateway.controlplane.triton.tracefile import TraceFile
from gateway.controlplane.triton.tracesettings import GLOBAL, TraceSettings
from gateway.errors import Forbidden, NotFound, NotReady
from gateway.routing.link import Errand, Tracing
from gateway.routing.outcome import Trace
from protos import inference_pb2 as pb

log = structlog.get_logger()

NO_FILE: Final = "nothing is traced here; set trace_file under [triton] to the file for it"
FORBIDDEN: Final = "clients may not change settings here; set change_settings = true under [triton] to let them"
NEITHER: Final = (
    "nothing is traced here, and clients may not change settings; under [triton], set trace_file to the file for "
    "traces, and change_settings = true"
)


class Proxies(Protocol):
    """All proxies (`gateway.controlplane.proxies.Proxies`)."""

    async def tell(self, message: Tracing) -> None: ...
    async def survey(self) -> None: ...


class Tracer:
    """Holds the settings, tells the proxies, writes the file."""

    def __init__(
        self,
        file: str,
        proxies: Proxies,
        models: Callable[[], Iterable[str]],
        *,
        may_change: bool,
    ) -> None:
        """`file` "": there are no traces. `models` are those released."""
        self._file = TraceFile(Path(file)) if file else None
        self._settings = TraceSettings(file)
        self._proxies = proxies
        self._models = models
        self._may_change = may_change
        self._turn = asyncio.Lock()
        self._tasks = Tasks()
        self._told = Tracing()

    async def errand(self, errand: Errand) -> bytes:
        """Reads the settings; changes those named, of all models or one, and returns when every proxy keeps to them."""
        request = read(pb.TraceSettingRequest, errand.message)
        model = request.model_name or GLOBAL
        if model and model not in self._models():
            raise NotFound(f"model '{model}' is not served here")
        if request.settings:
            await self._change(model, {name: list(given.value) for name, given in request.settings.items()})
            log.info("trace settings changed by a client", model=model or "all", peer=errand.peer)
        response = pb.TraceSettingResponse()
        for name, value in self._settings.read(model).items():
            response.settings[name].value.append(value)
        return response.SerializeToString()

    async def _change(self, model: str, values: dict[str, list[str]]) -> None:
        if self._file is None:
            raise Forbidden(NO_FILE if self._may_change else NEITHER)
        if not self._may_change:
            raise Forbidden(FORBIDDEN)
        async with self._turn:
            await self._proxies.survey()  # what was traced before counts under the settings of before
            self._settings.update(model, values)
            await self._tell_proxies()

    async def _tell_proxies(self) -> None:
        told = self._settings.tracing()
        if told != self._told:
            self._told = told
            await self._proxies.tell(told)

    def heard(self, traces: Sequence[Trace]) -> None:
        """Traces of one proxy; kept as far as they are wanted."""
        wanted = [trace for trace in traces if self._settings.take(trace.model)]
        if self._file is not None:
            self._file.add(wanted, self._settings.log_frequency)
        if self._settings.tracing() != self._told:
            self._tasks.start(self._stop_counted(), "end of traces")

    async def close(self) -> None:
        """Writes what is there."""
        await self._tasks.close()
        if self._file is not None:
            await self._file.close()

    async def _stop_counted(self) -> None:
        """As many traces as were wanted are there. A proxy that is late hears it all the same."""
        async with self._turn:
            with contextlib.suppress(NotReady):
                await self._tell_proxies()
