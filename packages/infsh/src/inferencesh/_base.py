"""What both clients share: everything except I/O."""

from collections.abc import Generator, Mapping
from typing import Any, Generic, TypeVar

from inferencesh._settings import Settings, settings_of
from inferencesh._steps import Step, Steps
from inferencesh.errors import InferenceError

T = TypeVar("T")


class Configured:
    """A client's settings. Nothing is connected before the first call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._disconnected()

    @property
    def base_url(self) -> str:
        """Address of the server, without a trailing slash."""
        return self._settings.base_url

    def _disconnected(self) -> None:
        """Set the state in which nothing is connected."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"


class BaseClient(Configured):
    """The settings of a client of the task API."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float = 30.0,
        idle_timeout: float = 60.0,
        retries: int = 3,
        upload_concurrency: int = 4,
        upload_paths: bool = True,
        upload_base64: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Settings for all calls. Raises ConfigurationError (a ValueError), which names the invalid one.

        `api_key` and `base_url` fall back to INFERENCE_API_KEY and INFERENCE_BASE_URL, then to the local server, which
        needs no key. `timeout`: seconds for one attempt of a request. `idle_timeout`: seconds of silence after which a
        stream is resumed. `retries`: retries of transient failures. `upload_concurrency`: concurrent uploads.
        `upload_paths=False`: strings in inputs are not treated as paths. `upload_base64=True`: strings that look like
        base64 are uploaded.
        """
        super().__init__(
            settings_of(
                api_key,
                base_url,
                timeout=timeout,
                idle_timeout=idle_timeout,
                retries=retries,
                upload_concurrency=upload_concurrency,
                upload_paths=upload_paths,
                upload_base64=upload_base64,
                headers=headers,
            )
        )


class Flow(Generic[T]):
    """A running flow: takes the result of one step and returns the next."""

    def __init__(self, steps: Steps[T]) -> None:
        self._steps: Generator[Step, Any, T] = steps
        self._result: list[T] = []

    def proceed(self, answer: Any) -> Step | None:
        """The next step; None at the end. Throws an `answer` that is an InferenceError. Raises what the flow raises."""
        try:
            return self._steps.throw(answer) if isinstance(answer, InferenceError) else self._steps.send(answer)
        except StopIteration as end:
            self._result = [end.value]
            return None

    def ended(self) -> T:
        """The result, once `proceed` has returned None."""
        return self._result[0]

    def close(self) -> None:
        """Abandon the flow."""
        self._steps.close()
